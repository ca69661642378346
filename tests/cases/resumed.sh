# A killed run that is resumed, twice at once too, ends as one that was never killed.
draw data 4 8 3
TRAIN="escort train data $QUICK --image-size 16 --epochs 3 --workers 1 --checkpoint-every 1 --increment 2 --budget 30KB"
$TRAIN --out whole >/dev/null 2>&1
$TRAIN --out run >/dev/null 2>&1 & process=$!
for n in $(seq 200); do [ -s run/metrics.jsonl ] && break; sleep 0.1; done
kill -9 $process; wait $process 2>/dev/null
cp -r run again
run escort train --resume again --workers 4 | grep -v known  # how many classes are, depends on when it was killed
for file in metrics.jsonl memory.escx model.safetensors; do cmp whole/$file again/$file && echo "$file is the same"; done
(escort train --resume run >a.txt 2>&1; echo $? >a.code) & (escort train --resume run >b.txt 2>&1; echo $? >b.code) & wait
cat a.code b.code | grep -q 0 && echo "one of two at once ends well"  # the other is told to wait
for file in metrics.jsonl memory.escx model.safetensors; do cmp whole/$file run/$file && echo "$file is the same"; done
