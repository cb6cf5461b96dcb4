from __future__ import annotations

import torch
from transformers import BertModel, PreTrainedTokenizerBase

from models.pipelines.text_encoder import encode_all, encode_text

Encoder = tuple[BertModel, PreTrainedTokenizerBase]


def test_shapes_and_padding(text_encoder: Encoder) -> None:
    embeddings = encode_text(*text_encoder, ["red heart", ""], 16)
    assert embeddings.tokens.shape == (2, 16, 384)
    assert embeddings.mask.sum(dim=1).tolist() == [4, 2]
    assert not embeddings.tokens[~embeddings.mask].any()


def test_a_long_text_is_cut_but_counts_in_the_mean(text_encoder: Encoder) -> None:
    short, long = "cat " * 20, "cat " * 20 + "and a rocket " * 5
    embeddings = encode_text(*text_encoder, [short, long], 16)
    assert embeddings.mask.all()
    assert not torch.allclose(embeddings.pooled[0], embeddings.pooled[1], atol=1e-2)


def test_similar_texts_are_nearer_than_others(text_encoder: Encoder) -> None:
    pooled = torch.nn.functional.normalize(encode_text(*text_encoder, ["red heart", "a heart that is red", "airplane"], 16).pooled)
    assert pooled[0] @ pooled[1] > pooled[0] @ pooled[2] + 0.3


def test_many_texts_come_back_in_their_order(text_encoder: Encoder) -> None:
    texts = ["a much longer caption than the others are", "cat", "sun with face", "dog"]
    together = encode_all(*text_encoder, texts, 16, batch_size=2)
    for index, text in enumerate(texts):
        alone = encode_text(*text_encoder, [text], 16)
        assert torch.allclose(together.pooled[index], alone.pooled[0], atol=1e-5)
        assert torch.equal(together.mask[index], alone.mask[0])
