# Images that are added later never move a training image into the test set.
draw drawn 4 20 1
cp -r drawn/train data
run escort train data $QUICK --increment 2 --out run
cp -r data before
for class in data/*; do cp $class/000.jpg $class/0000.jpg; done
run escort evaluate run --data data
python - <<'P'
from pathlib import Path
from escort_cil.data.protocol import read_data
from escort_cil.run.folder import RunFolder
def keys(groups):
    return {image.key for group in groups.values() for image in group}
trained, held = keys(read_data("before").train), keys(read_data("data", recorded=RunFolder(Path("run")).read_split()).test)
print(len(held), "images are held out,", len(held & trained), "of them were trained on")
P
