"""Why something was refused or failed: one small enum for labels, the detail in words beside it."""

from __future__ import annotations

from pydantic import Field, ValidationError

from include.contracts.base import Label, Part


class ReasonCode(Label):
    """Few values, so that each can be a metric label. The detail goes into :attr:`Reason.message`."""

    INVALID_MESSAGE = "invalid_message"  #: not JSON, not UTF-8, null, or too large to read
    INVALID_FIELD = "invalid_field"  #: a field is missing, unknown or out of range
    UNSUPPORTED_SCHEMA = "unsupported_schema"  #: schema_version of another release
    UNKNOWN_MODEL = "unknown_model"  #: no route to a servable version of that model
    UNKNOWN_SCENARIO = "unknown_scenario"  #: no such scenario
    UNSUPPORTED_SHAPE = "unsupported_shape"  #: the model can't render that size, count or number of steps
    DUPLICATE_ID = "duplicate_id"  #: this tenant has already sent that request id
    ID_TAKEN = "id_taken"  #: another tenant owns that request id
    RATE_LIMITED = "rate_limited"  #: over the tenant's quota; retry_after_s says when to come back
    OVERLOADED = "overloaded"  #: the lane is full; retry_after_s says when to come back
    DEADLINE_PASSED = "deadline_passed"  #: can't be met any more
    CANCELLED = "cancelled"  #: the tenant asked for it
    SCHEDULER_FAILED = "scheduler_failed"  #: the scheduler raised on it, twice; a fault of the scheduler
    LEASE_EXPIRED = "lease_expired"  #: the worker fell silent
    WORKER_LOST = "worker_lost"  #: the worker said goodbye or started anew while it held the lease
    MODEL_LOAD_FAILED = "model_load_failed"  #: the version can't be fetched, verified or loaded
    OUT_OF_MEMORY = "out_of_memory"  #: the render does not fit the device
    RENDER_FAILED = "render_failed"  #: the pipeline raised
    UNSAFE_CONTENT = "unsafe_content"  #: the safety checker blocked the image
    STORE_FAILED = "store_failed"  #: the image could not be stored


class Reason(Part):
    """A reason that a person can act on."""

    code: ReasonCode = Field(description="The reason as a label.")
    message: str = Field(max_length=2000, description="What is wrong and what would be right.")
    field: str | None = Field(None, max_length=200, description="The field at fault, dotted.")
    retry_after_s: float | None = Field(None, ge=0, description="Seconds after which the same request may succeed.")


class RefusedError(ValueError):
    """Raised where input is refused; carries the :class:`Reason`."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason


def refusal_of(error: ValidationError) -> Reason:
    """The first finding of a validation error as a reason that names the field and the fix.

    Another release's message differs in many fields; then its version is the reason that helps.
    """
    findings = error.errors(include_url=False, include_input=False)
    first = next((one for one in findings if one["loc"][-1:] == ("schema_version",)), findings[0])
    field = ".".join(str(part) for part in first["loc"])[:200] or None  # an unknown field has whatever name its sender gave it
    if first["type"] in ("json_invalid", "json_type"):
        return Reason(code=ReasonCode.INVALID_MESSAGE, message=f"not valid JSON: {first['msg']}")
    if first["loc"][-1:] == ("schema_version",):
        return Reason(
            code=ReasonCode.UNSUPPORTED_SCHEMA, field=field, message="schema_version is not one this release speaks; send schema_version 1"
        )
    words = "unknown field; remove it" if first["type"] == "extra_forbidden" else first["msg"]
    return Reason(code=ReasonCode.INVALID_FIELD, field=field, message=f"{field or 'message'}: {words}"[:2000])
