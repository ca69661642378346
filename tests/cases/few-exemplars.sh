# A budget that cannot hold one exemplar of each class is refused with the least that will do.
draw data 8 8 3
run escort train data $QUICK --keep prompt --hint-codec vp8 --increment 2 --budget 1500 --out run
least=$(sed -n 's/.*at least //p' out.txt)
run escort train data $QUICK --keep prompt --hint-codec vp8 --increment 2 --budget $least --out run
escort inspect run/memory.escx --json | python -c "import json, sys; print(len(json.load(sys.stdin)['classes']), 'classes')"
