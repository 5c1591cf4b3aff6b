#!/bin/bash
# Installs pymesos 0.3.15 into a virtual environment, once. Its dependency http-parser ships C that
# was generated for older Pythons than 3.11: it is generated anew, from the unchanged sources.
set -euo pipefail
directory=$1
exec 9>"$directory.lock"
flock 9
[ -e "$directory/installed" ] && exit 0
rm -rf "$directory"
python3 -m venv "$directory"
pip="$directory/bin/pip --quiet --disable-pip-version-check"
$pip install 'cython<3' setuptools wheel six
$pip download --no-deps --no-build-isolation --no-binary :all: --dest "$directory/src" http-parser==0.9.0
tar -xzf "$directory"/src/http*parser-0.9.0.tar.gz -C "$directory/src"
cd "$directory"/src/http*parser-0.9.0
"$directory/bin/cython" http_parser/parser.pyx
$pip install --no-build-isolation .
$pip install pymesos==0.3.15
touch "$directory/installed"
