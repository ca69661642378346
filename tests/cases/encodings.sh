# Names that the console's encoding does not have.
mkdir -p data/train data/test
draw drawn 2 4 2
for split in train test; do cp -r drawn/$split/balloon data/$split/$'\u732b'; cp -r drawn/$split/butterfly data/$split/$'caf\u00e9'; done
for encoding in ascii cp1252 cp437; do
    export PYTHONIOENCODING=$encoding
    echo "--- $encoding"
    run escort encode data out.escx --force
    escort inspect out.escx --classes 2>&1 | grep -a ' 4 *|*$' | tr -d '|' | tr -s ' ' | iconv -f $encoding -t utf-8
done
export PYTHONIOENCODING=cp1252 LC_ALL=C
run escort train data $QUICK --increment 1 --out run
run escort evaluate run --data data
