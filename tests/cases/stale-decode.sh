# A photograph is replaced and all is done again: the old image is not taken for the new one's.
python - <<'P'
from pathlib import Path
from PIL import Image
for name, colour in (("a", (220, 0, 0)), ("b", (0, 0, 220))):
    Path("data", name).mkdir(parents=True)
    Image.new("RGB", (64, 64), colour).save(f"data/{name}/1.png")
P
run escort encode data out.escx
escort decode out.escx --seeds 0 --format png 2>/dev/null
python -c "from PIL import Image; Image.new('RGB', (64, 64), (0, 200, 0)).save('data/a/1.png')"
run escort encode data out.escx --force
escort decode out.escx --seeds 0 --format png 2>/dev/null
python -c "
import numpy as np
from PIL import Image
found = np.asarray(Image.open('out/a/1_seed00.png')).mean((0, 1))
print('as the new photograph:', bool(np.abs(found - (0, 200, 0)).max() < 60))"
