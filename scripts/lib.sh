# Sourced by every script here: where things are, and how to say something. No work is done on sourcing.

set -euo pipefail
# Set by a shell or an editor, these would change what the scripts import.
unset PYTHONPATH PYTHONHOME
# The working directory is never on sys.path: tests and benchmarks see the installed package, not the checkout.
export PYTHONSAFEPATH=1 PIP_DISABLE_PIP_VERSION_CHECK=1

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$ROOT"

say() { printf '== %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
in_ci() { [[ ${CI:-} == true ]]; }
may_install_packages() { in_ci && [[ $(id -u) == 0 ]] && command -v apt-get >/dev/null; }

# environment of a flavour: .venv for release, .venv-NAME for the others
environment() { if [[ $1 == release ]]; then echo .venv; else echo ".venv-$1"; fi; }
