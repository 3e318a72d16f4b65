#!/usr/bin/env bash
# Makes FOLDER/python: Python 3.13, numpy and onnxruntime for arm64, under emulation on this machine.
#   setup.sh FOLDER
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(realpath -m "$1")
root=$here/../..

# The emulator of Debian 12 crashes while it imports onnxruntime, that of Debian 13 does not.
"$here/../debian13.sh" "$folder/tools" "$(dpkg --print-architecture)" qemu-user
find "$folder/tools/usr/bin" -type f ! -name qemu-aarch64 -delete
DEPENDENCIES=1 "$here/../debian13.sh" "$folder/system" arm64 \
    python3-minimal libpython3-stdlib libstdc++6
ln -sfn usr/lib "$folder/system/lib"

# What a device would install, by the lock of a device kit.
python3 -m pip install --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
    --platform manylinux_2_28_aarch64 --python-version 3.13 --upgrade --target "$folder/site" \
    -r "$root/export/kit/device/requirements.lock"
mkdir -p "$folder/site/attnrec"
ln -sfn "$(realpath "$root/runtime")" "$folder/site/attnrec/runtime"

# QEMU_CPU chooses a processor: cortex-a53, cortex-a76, neoverse-v1...; the default has everything.
cat >"$folder/python" <<END
#!/bin/sh
export PYTHONHOME="$folder/system/usr" PYTHONPATH="$folder/site"
exec "$folder/tools/usr/bin/qemu-aarch64" -L "$folder/system" "$folder/system/usr/bin/python3.13" "\$@"
END
chmod +x "$folder/python"
