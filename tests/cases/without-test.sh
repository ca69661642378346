# The class of the first phase has no test image: its figures show a dash, and the run goes on.
draw data 4 6 3
first=$(python -c "
from escort_cil.data.protocol import class_order
import os
print(class_order(os.listdir('data/train'), 1993)[0])")
rm -r data/test/$first
run escort train data $QUICK --keep prompt --hint-codec vp8 --increment 1 --out run
figures run
grep -E '^ (1|2) ' out.txt | head -2 | tr -s ' '
run escort report run --out report.html
