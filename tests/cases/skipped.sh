# What encode skipped is skipped in training too; a bad test image is for --on-error.
draw data 4 8 3
head -c 700 data/train/cactus/003.jpg > cut; mv cut data/train/cactus/003.jpg
run escort encode data out.escx --on-error skip
run escort train --memory out.escx $QUICK --increment 2 --out run
figures run
head -c 700 data/test/clock/001.jpg > cut; mv cut data/test/clock/001.jpg
run escort train --memory out.escx $QUICK --increment 2 --out again
[ -e again ] || echo "no run folder"
run escort train --memory out.escx $QUICK --increment 2 --out again --on-error skip
figures again
