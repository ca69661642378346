# Images one pixel wide and 65,520 pixels long.
python - <<'P'
from pathlib import Path
import numpy as np
from PIL import Image
rng = np.random.RandomState(0)
for name in "ab":
    Path("data", name).mkdir(parents=True)
    for width, height in ((1, 300), (65520, 1), (1, 1), (40, 40)):
        Image.fromarray(rng.randint(0, 255, (height, width, 3), dtype=np.uint8)).save(f"data/{name}/{width}x{height}.png")
P
ulimit -v 12000000
run escort encode data out.escx
escort decode out.escx --seeds 0 --format png 2>&1 | grep made
run escort train data $QUICK --transform large --batch-size 4 --increment 1 --out run
figures run
