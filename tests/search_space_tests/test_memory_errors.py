"""Whichever framework runs out of memory, and however it says so, it is known."""

import pytest

from search_space.errors import is_out_of_memory


class OutOfMemoryError(RuntimeError):
    """As PyTorch calls it."""


class ResourceExhaustedError(Exception):
    """As TensorFlow calls it."""


class HalfOfItError(ResourceExhaustedError):
    """Some kind of it."""


class XlaRuntimeError(RuntimeError):
    """What JAX calls everything."""


class InternalError(Exception):
    """What TensorFlow calls much."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        HalfOfItError("OOM when allocating tensor with shape[4,16,16,4]"),
        XlaRuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 17179869184 bytes."),
        InternalError("Dst tensor is not initialized."),
        InternalError("Failed to allocate request for 2.00GiB (2147483648B): CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
    ids=lambda error: f"{type(error).__name__} {str(error)[:20]}",
)
def test_memory_that_ran_out_is_known(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        XlaRuntimeError("INTERNAL: Failed to execute XLA Runtime executable"),
        InternalError("Blas xGEMM launch failed"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        ValueError("the memory of trial 3 is not told"),
    ],
    ids=lambda error: f"{type(error).__name__} {str(error)[:20]}",
)
def test_other_errors_are_not_taken_for_it(error: BaseException) -> None:
    assert not is_out_of_memory(error)
