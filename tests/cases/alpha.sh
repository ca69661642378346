# Transparent pixels are white, whatever colour is hidden under them, or what --background says.
mkdir -p data/a data/b
python - <<'P'
import numpy as np
from PIL import Image, ImageDraw
logo = Image.new("RGBA", (128, 128), (0, 0, 0, 0))
ImageDraw.Draw(logo).ellipse((32, 32, 96, 96), fill=(0, 0, 0, 255))
logo.save("data/a/logo.png")
noise = np.random.RandomState(0).randint(0, 256, (128, 128, 3), dtype=np.uint8)
Image.fromarray(np.dstack([noise, np.zeros((128, 128), np.uint8)])).save("data/b/clear.png")
Image.new("LA", (64, 64), (0, 0)).save("data/b/grey.png")
P
for background in white black; do
    run escort encode data out.escx --force --background $background
    python -c "
import escort_codec
with escort_codec.open('out.escx') as file:
    for exemplar in file:
        print(' ', exemplar.key, int(exemplar.edges.sum()), 'edge pixels')"
done
run escort encode data out.escx --force --background grey-ish
