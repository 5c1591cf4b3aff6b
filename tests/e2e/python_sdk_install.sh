#!/bin/bash
# Installs the package in sdk/python into a virtual environment. What it is built with is fetched once; the package
# itself is built anew each time, as the tree has it.
set -euo pipefail
directory=$1
package=$2
exec 9>"$directory.lock"
flock 9
wanted=$(sha256sum "$package/pyproject.toml" | cut -d' ' -f1)
pip="$directory/bin/pip --quiet --disable-pip-version-check"
if [ "$(cat "$directory/installed" 2>/dev/null)" != "$wanted" ]; then
  rm -rf "$directory"
  python3 -m venv "$directory"
  # As pip does where it may fetch anew for every build.
  "$directory/bin/python" - "$package/pyproject.toml" > "$directory/requirements.txt" <<'PYTHON'
import sys, tomllib
project = tomllib.load(open(sys.argv[1], "rb"))
print("\n".join(project["build-system"]["requires"] + project["project"]["dependencies"] + ["wheel"]))
PYTHON
  $pip install --requirement "$directory/requirements.txt"
  echo "$wanted" > "$directory/installed"
fi
rm -rf "$package/build"
$pip install --no-build-isolation --no-deps --force-reinstall "$package"
