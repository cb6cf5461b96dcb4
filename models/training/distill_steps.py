"""Makes a few-step student of a model: as many images from four steps without guidance as the teacher draws with twelve guided ones.

    python -m models.training.distill_steps --config models/configs/distill.yaml --dataset MANIFEST --output DIR --init TEACHER

The teacher is the pipeline directory given as ``--init``, or ``--init base``; the student starts from its weights. Only the captions of the
dataset are used. All else is as in ``train_text_to_image``: it resumes, it is watched, it leaves the same files. The pipeline that it
leaves has the student's noise levels in its scheduler, and in ``training.json`` the steps and the guidance, 1, that it is made for.
"""

from __future__ import annotations

import copy
import sys

from diffusers import FlowMatchEulerDiscreteScheduler

from models.training.command import conduct, parser
from models.training.config import TrainingConfig
from models.training.families.base import Family
from models.training.families.hourglass import HourglassFamily
from models.training.families.load import load_family
from models.training.lock import RunLock
from models.training.objectives.step_distillation import StepDistillation
from models.training.run import Place, Run, assemble_run, load_splits, start_accelerator
from models.training.state import arithmetic
from models.training.train_text_to_image import train

NO_GUIDANCE = 1.0


def main(arguments: list[str] | None = None) -> int:
    return conduct(parser("distill_steps", __doc__).parse_args(arguments), prepare, train)


def prepare(config: TrainingConfig, place: Place, lock: RunLock) -> Run:
    """Raises :class:`ValueError` for a teacher that is not a flow, or none."""
    if not place.init:
        raise ValueError("init: name the teacher, a pipeline directory or `base`")
    if config.method != "full":
        raise ValueError("method: a student is trained in full")
    config = config.model_copy(update={"guidance": NO_GUIDANCE})
    accelerator = start_accelerator(config)
    family = _student(load_family(config, place.init), config.sample_steps)
    data = load_splits(config, place, family, accelerator)
    teacher = copy.deepcopy(family.network).to(accelerator.device, arithmetic(config)).requires_grad_(False).eval()
    objective = StepDistillation(
        teacher=family.predictor(teacher),
        sigmas=tuple(grid(config.sample_steps).sigmas.tolist()),
        substeps=config.teacher_steps,
        guidance=config.teacher_guidance,
        unconditional=data[0].unconditional,
    )
    lineage = {"distilled": True, "student_steps": config.sample_steps}
    return assemble_run(
        config, place, family, lock, accelerator, data=data, objective=objective, steps=config.sample_steps, lineage=lineage
    )


def _student(family: Family, steps: int) -> HourglassFamily:
    if not isinstance(family, HourglassFamily):
        raise ValueError("init: only a model of the hourglass family can be a teacher; Stable Diffusion is not a flow")
    return HourglassFamily(family.network, family.encoder, family.tokenizer, grid(steps))


def grid(steps: int) -> FlowMatchEulerDiscreteScheduler:
    """A scheduler whose steps are equally wide, with its noise levels set.

    Without ``shift_terminal`` the last level before zero is a thousandth, and the last step is spent on next to nothing.
    """
    scheduler = FlowMatchEulerDiscreteScheduler(shift_terminal=1 / steps if steps > 1 else None)
    scheduler.set_timesteps(steps)
    return scheduler


if __name__ == "__main__":
    sys.exit(main())
