# Sourced by every case, in an empty folder: quick options of training, and drawn data.
set -u
export OMP_NUM_THREADS=1
QUICK="--backbone resnet10 --image-size 32 --epochs 1 --device cpu --workers 2 --budget 20KB"
# Of encoding, where edge maps and hints do not matter: loading the kernels takes longer than the rest.
PLAIN="--coding packed --hint 0"

# draw FOLDER CLASSES TRAIN TEST: drawn pictures of 40 pixels.
draw() {
    python -c "
from sys import argv
from escort_cil.demo.drawings import draw_dataset
draw_dataset(argv[1], classes=int(argv[2]), train=int(argv[3]), test=int(argv[4]), size=40)" "$@"
}

# picture FILE...: a red picture.
picture() {
    python -c "
from sys import argv
from pathlib import Path
from PIL import Image
for name in argv[1:]:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (32, 32), 'red').save(name)" "$@"
}

# prompts FILE: each exemplar and its text.
prompts() {
    python -c "
from sys import argv
import escort_codec
with escort_codec.open(argv[1]) as file:
    for exemplar in file:
        print(' ', ascii(exemplar.key), '->', ascii(exemplar.prompt))" "$1"
}

# figures RUN: what stands in its metrics.
figures() {
    python -c "
from sys import argv
import json
for line in open(argv[1] + '/metrics.jsonl'):
    found = json.loads(line)
    print('  classes:', found['classes'], 'test images:', found['images'])" "$1"
}

# run COMMAND...: its messages without times and rates, and its exit code.
run() {
    "$@" >out.txt 2>&1
    code=$?
    grep -E "$SHOWN" out.txt | sed -E 's/[0-9,.]+ (images|files|epochs)\/s.*//' | cut -c1-200
    echo "exit $code"
}
SHOWN='^(Traceback|[A-Za-z]+Error|escort|layout|not used|skipped|captions|no |[0-9,]+ (class|caption|held|text|file))'
