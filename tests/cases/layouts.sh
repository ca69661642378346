# Splits by their usual names, in any letter case, inside one folder; what has two readings is refused.
draw data 3 4 2
mkdir -p capitals split/inner validation alone both
cp -r data/train capitals/Train; cp -r data/test capitals/Test
cp -r data/train validation/val; cp -r data/test validation/test
cp -r data/train data/test split/inner
cp -r data/train alone/train
cp -r data/train both/train; cp -r data/train both/Training
for folder in capitals validation split alone both; do
    echo "--- $folder"
    run escort encode $folder $folder.escx $PLAIN
done
echo "--- train/ and val/"
mkdir imagenet; cp -r data/train imagenet/train; cp -r data/test imagenet/val
run escort train imagenet $QUICK --out run-imagenet
figures run-imagenet
echo "--- train/ alone"
run escort train alone $QUICK --out run-alone
figures run-alone
echo "--- train/ and a test/ without classes"
mkdir -p flat/test; cp -r data/train flat/train; cp data/test/balloon/*.jpg flat/test
run escort train flat $QUICK --out run-flat
