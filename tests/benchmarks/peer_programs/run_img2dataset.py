"""img2dataset over a CSV of addresses and captions: ``run_img2dataset.py TABLE OUTPUT SIZE QUALITY``."""

from __future__ import annotations

import sys

from img2dataset import download

if __name__ == "__main__":
    table, output, size, quality = sys.argv[1:]
    download(
        url_list=table,
        input_format="csv",
        url_col="url",
        caption_col="caption",
        output_folder=output,
        output_format="webdataset",
        image_size=int(size),
        resize_mode="border",
        encode_quality=int(quality),
        processes_count=2,
        thread_count=16,
        number_sample_per_shard=1000,
    )
