# What can be known before the first epoch is said before it, and nothing is left behind.
draw data 4 8 3
TRAIN="escort train data $QUICK --increment 2 --out run"
echo "--- KB forgotten"; run $TRAIN --budget 100
echo "--- nothing"; run $TRAIN --budget 0
echo "--- a newline in a name"; cp data/train/clock/000.jpg data/train/clock/$'a\nb.jpg'; run $TRAIN; rm data/train/clock/a?b.jpg
echo "--- a backslash in a name"; cp data/train/clock/000.jpg 'data/train/clock/a\b.jpg'; run $TRAIN; rm data/train/clock/a?b.jpg
echo "--- a caption of 9,000 bytes"; python -c "print('word ' * 1800)" > data/train/clock/000.txt; run $TRAIN; rm data/train/clock/000.txt
echo "--- a damaged test image"; head -c 700 data/test/clock/000.jpg > cut; mv cut data/test/clock/000.jpg; run $TRAIN
[ -e run ] || echo "no run folder"
