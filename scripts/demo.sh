#!/usr/bin/env bash
# The main job, typed out: plan, train two gated sprints on a real model, look, roll back, verify.
# Works in build/demo, or in a new folder named by DEMO_DIR.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
export PATH="$root/.venv/bin:$PATH"

if [[ -n ${DEMO_DIR:-} ]]; then
    folder=$DEMO_DIR
    if [[ -e $folder && -n $(ls -A "$folder") ]]; then
        printf 'demo: %s is not empty; give a new folder, or none for build/demo\n' "$folder" >&2
        exit 2
    fi
else
    folder=$root/build/demo
    rm -rf "$folder"
fi
mkdir -p "$folder"
cd "$folder"

say() { printf '\n# %s\n' "$*"; }
run() {
    local word shown=
    for word in "$@"; do
        if [[ $word == *' '* ]]; then word="\"$word\""; fi
        shown+=" $word"
    done
    printf '$%s\n' "$shown"
    "$@"
}

playbook=$(python -c 'import os, sys; print(os.path.relpath(sys.argv[1]))' "$root/playbooks/quickstart.yaml")

say "What would be done, and why. Nothing is trained yet."
run safetune plan "$playbook" -o plan.json

say "Do exactly that plan: train, evaluate, gate; promote what passes."
run safetune run plan.json

say "Where the channel points now."
run safetune status

say "Go back to what was promoted before; every file is verified first."
run safetune rollback --reason "a look at how going back works"
run safetune status

say "Hold the whole store against its ledger."
run safetune verify
