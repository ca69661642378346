# A ramp of 16 bits is the ramp of 8 bits, and not white.
mkdir -p data/a data/b
python - <<'P'
import numpy as np
from PIL import Image
ramp = np.tile(np.linspace(0, 65535, 256).astype(np.uint16), (256, 1))
Image.fromarray(ramp).save("data/a/ramp.png")
Image.fromarray((ramp >> 8).astype(np.uint8)).save("data/b/ramp.png")
P
run escort encode data out.escx --hint 32 --hint-codec vp8
escort decode out.escx --seeds 0 --format png --quiet
python -c "
import numpy as np
from PIL import Image
for name in 'ab':
    columns = np.asarray(Image.open(f'out/{name}/ramp_seed00.png')).mean((0, 2))
    print(name, columns[[5, 64, 128, 250]].round())"
