# Photographs with equal bytes, as copies in a download folder are.
draw data 3 6 2
for class in data/train/*; do for n in 1 2 3 4 5 6 7 8; do cp $class/000.jpg "$class/copy ($n).jpg"; done; done
run escort train data $QUICK --keep prompt --increment 1 --out run
figures run
find run/cache -name '*.jpg' | wc -l
