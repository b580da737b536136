"""What a refused call says."""

import pytest


def refusal(call, *arguments, **options) -> str:
    with pytest.raises((ValueError, OSError)) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 700
    return message
