#!/usr/bin/env bash
# Unpacks packages of Debian 13 into a folder, on Debian or Ubuntu, without installing anything:
#   debian13.sh FOLDER ARCHITECTURE PACKAGE...
# With DEPENDENCIES=1 what they depend on as well.
set -euo pipefail
folder=$(realpath -m "$1") architecture=$2
shift 2
command -v apt-get >/dev/null || { echo "debian13.sh needs apt-get" >&2; exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$scratch"/{lists/partial,cache/archives/partial,none} "$folder"
touch "$scratch/status"
# The mirror that this machine uses.
mirror=$(find /etc/apt -name '*.list' -o -name '*.sources' | xargs cat |
    sed -nE '/^#/d; s,^.*(https?://[^ ]+/debian)/?( .*)?$,\1,p' | sort -u | sed -n 1p)
test "$mirror" || { echo "debian13.sh finds no mirror of Debian in /etc/apt" >&2; exit 1; }
key=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb [arch=$architecture signed-by=$key] $mirror trixie main" >"$scratch/sources"
cat >"$scratch/apt.conf" <<END
APT::Architecture "$architecture";
APT::Architectures { "$architecture"; };
APT::Sandbox::User "root";
APT::Install-Recommends "false";
Debug::NoLocking "true";
Dir::Etc::SourceList "$scratch/sources";
Dir::Etc::SourceParts "$scratch/none";
Dir::State::Lists "$scratch/lists";
Dir::State::status "$scratch/status";
Dir::Cache "$scratch/cache";
END
export APT_CONFIG="$scratch/apt.conf"
apt-get -qq update
cd "$scratch/cache/archives"
if [ "${DEPENDENCIES:-}" ]; then
    apt-get -qq install --download-only "$@" >/dev/null
else
    apt-get -qq download "$@"
fi
for package in *.deb; do
    dpkg-deb --extract "$package" "$folder"
done
