# Images in formats and modes that Pillow reads; the others are named.
mkdir -p data/a
python - <<'P'
import numpy as np
from PIL import Image, PngImagePlugin
image = Image.fromarray(np.random.RandomState(0).randint(0, 255, (40, 60, 3), dtype=np.uint8))
for suffix in ("tiff", "avif", "jp2", "ppm", "tga", "ico", "bmp", "gif", "webp"):
    image.save(f"data/a/x.{suffix}")
image.save("data/a/x.jfif", "JPEG")
text = PngImagePlugin.PngInfo()
text.add_text("notes", "x" * 3_000_000, zip=True)
image.save("data/a/text.png", pnginfo=text)
image.save("data/a/profile.png", icc_profile=b"\0" * (2 << 20))
image.save("data/a/two.jpg", "MPO", save_all=True, append_images=[image.rotate(90)])
image.convert("CMYK").save("data/a/cmyk.jpg")
image.convert("1").save("data/a/bits.png")
image.convert("P").save("data/a/palette.png")
image.convert("P").save("data/a/clear.png", transparency=0)
image.convert("L").save("data/a/grey.png", transparency=3)
open("data/a/empty.jpg", "wb").close()
open("data/a/note.jpg", "w").write("not an image at all")
P
run escort encode data out.escx --on-error skip
prompts out.escx | cut -d' ' -f1-3
