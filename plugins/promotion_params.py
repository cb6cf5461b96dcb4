"""Form fields of a promotion, named like the fields of the policies that they make: GatePolicy and CanaryPolicy of include.lifecycle."""

from __future__ import annotations

from airflow.sdk import Param

from plugins import params

GATE_PARAMS = {
    "quality_worse_pct": params.percent(10, "Growth allowed to kernel distance and held-out loss."),
    "slower_pct": params.percent(100, "Growth allowed to the seconds per image."),
    "bigger_pct": params.percent(10, "Growth allowed to the size."),
    "agreement_worse_pct": params.percent(10, "Fall allowed to the agreement of images with their prompts."),
    "memorised_more_points": Param(
        20, type="number", minimum=0, maximum=100, description="Percentage points that the memorised share may be above the champion's."
    ),
    "memorised_max_pct": Param(100, type="number", minimum=0, maximum=100, description="Percent of the images that may be memorised."),
    "licenses": params.text("Licences allowed in the training data, by commas, * for any ending; empty: the champion's.", 2000),
}

CANARY_PARAMS = {
    "canary_share": Param(0.1, type="number", minimum=0, maximum=0.99, description="Share of the live requests for the trial; 0: none."),
    "canary_min_requests": params.number(50, 1, 1_000_000, "Finished requests of each version that are enough."),
    "canary_minutes": Param(60, type="number", exclusiveMinimum=0, maximum=10_080, description="After so long it is decided all the same."),
    "canary_error_pct": params.percent(2, "Percentage points by which more requests may fail than on the champion."),
    "canary_slower_pct": params.percent(50, "Growth allowed to the device seconds of an image, median and 95th percentile."),
    "canary_rating_drop": Param(0.5, type="number", minimum=0, maximum=4, description="By how much the mean rating may be lower."),
    "canary_no_traffic": Param("back", enum=["back", "promote"], description="What to do where too few requests came in time."),
}
