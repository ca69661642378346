# Classes of one image, empty class folders, batches of one.
draw drawn 4 8 3
mkdir data; cp -r drawn/train/* data
rm data/balloon/00[1-7].jpg data/cactus/*
run escort train data $QUICK --increment 2 --out run
figures run
echo "--- batches of one image"
run escort train drawn $QUICK --increment 2 --batch-size 1 --out run1
echo "--- one image a phase"
for class in balloon cactus clock; do
    mkdir -p one/train/$class one/test/$class
    cp drawn/train/$class/000.jpg one/train/$class; cp drawn/test/$class/000.jpg one/test/$class
done
run escort train one $QUICK --increment 1 --out run2
echo "--- a name that is not UTF-8"
cp drawn/train/clock/000.jpg "drawn/train/clock/$(printf '\xff\xfe').jpg"
run escort train drawn $QUICK --increment 2 --out run3
