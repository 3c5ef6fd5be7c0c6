#!/usr/bin/env bash
# Install the tools that safetune reads results of or is compared with, each in its own virtual environment:
#   scripts/install_peers.sh [FOLDER] [inspect] [lm_eval] [garak] [data]
# FOLDER is build/peers when it is left out. Uses uv when $UV names it or it is on the PATH, pip otherwise.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-build/peers}
shift || true
wanted=("$@")
[[ ${#wanted[@]} -gt 0 ]] || wanted=(inspect lm_eval garak data)
uv=${UV-$(command -v uv || true)}
torch=torch==2.13.0

packages() {
    case $1 in
        inspect) echo "inspect-ai==0.3.285 $torch transformers accelerate" ;;
        lm_eval) echo "lm-eval[hf]==0.4.13 $torch" ;;
        garak) echo "garak==0.17.1 $torch" ;;
        # data: what reads Croissant records, makes the md5s of DVC, and filters rows as the guards do.
        data) echo "mlcroissant==1.1.1 dvc-data==3.18.3 datatrove==0.10.1 orjson xxhash==3.8.2 pandas" ;;
        *) printf 'install_peers: unknown tool %s (known: inspect lm_eval garak data)\n' "$1" >&2; exit 1 ;;
    esac
}

links=()
for link in ${PIP_FIND_LINKS:-}; do links+=(--find-links "$link"); done

mkdir -p "$folder"
for name in "${wanted[@]}"; do
    list=$(packages "$name")
    read -ra what <<<"$list"
    if [[ -n $uv ]]; then
        [[ -x $folder/$name/bin/python ]] || "$uv" venv --quiet --python "${PYTHON:-3.11}" "$folder/$name"
        "$uv" pip install --quiet --python "$folder/$name/bin/python" ${links[@]+"${links[@]}"} "${what[@]}"
    else
        [[ -x $folder/$name/bin/python ]] || "${PYTHON:-python3}" -m venv "$folder/$name"
        "$folder/$name/bin/python" -m pip install --quiet --disable-pip-version-check "${what[@]}"
    fi
    if [[ $name == garak ]]; then
        # garak finds probes in its own package only.
        probes=$("$folder/garak/bin/python" -c 'import pathlib, garak; print(pathlib.Path(garak.__file__).parent / "probes")')
        cp scripts/peer_tasks/garak_probe.py "$probes/safetune_bench.py"
    fi
    printf 'install_peers: %s is in %s\n' "$name" "$folder/$name"
done
