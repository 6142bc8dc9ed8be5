"""What keeps CUDA from working, out of texts as onnxruntime, loaders and drivers write them."""

import re
import subprocess
import sys

from onnx_relusv.runtime.cuda_trouble import cuda_trouble

# What onnxruntime-gpu 1.31 writes where it is installed without NVIDIA's libraries.
NO_LIBRARIES = (
    "\x1b[1;31m2026-11-29 20:01:01.794 [E:onnxruntime:Default, provider_bridge_ort.cc:2458 "
    "operator()] /onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:2043 "
    "onnxruntime::Provider& onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : "
    "Failed to load library /usr/lib/capi/libonnxruntime_providers_cuda.so with error: "
    "libcublasLt.so.13: cannot open shared object file: No such file or directory\n\x1b[m\n"
)


def test_what_is_said_of_it() -> None:
    for text, words in (
        (NO_LIBRARIES, r"^the library libcublasLt\.so\.13 is missing; pip install "),
        (
            "Failed to load libcudnn.so.9: libcudnn.so.9: cannot open shared object file: No such",
            r"^the library libcudnn\.so\.9 is missing",
        ),
        (
            'onnxruntime_providers_cuda.dll" depends on LoadLibrary failed with error 126 "" when '
            'trying to load "C:\\x\\cudnn64_9.dll" which is missing.',
            r"^the library cudnn64_9\.dll is missing",
        ),
        (
            "CUDA failure 100: no CUDA-capable device is detected ; GPU=0 ; hostname=a ; file=b.cc",
            "^no CUDA-capable device is detected; it takes an NVIDIA GPU",
        ),
        (
            "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; G=0",
            "^CUDA driver version is insufficient for CUDA runtime version; it takes",
        ),
        (
            "[ONNXRuntimeError] : 1 : FAIL : /onnxruntime_src/core/a.cc:12 out of order\nsecond",
            "^out of order$",
        ),
        ("", "^onnxruntime does not say why$"),
    ):
        found = cuda_trouble(text)
        assert re.search(words, found)
        assert "\n" not in found
        assert "\x1b" not in found


def test_what_libraries_write_is_captured_and_the_stream_given_back() -> None:
    code = (
        "import os, sys\n"
        "from onnx_relusv.runtime.cuda_trouble import captured_errors\n"
        "with captured_errors() as found:\n"
        "    os.write(2, b'from a library')\n"
        "    print(' and from Python', file=sys.stderr)\n"
        "print(found, flush=True)\n"
        "os.write(2, b'behind')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['from a library and from Python\\n']\n"
    assert done.stderr == "behind"
