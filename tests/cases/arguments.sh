# No worker in a configuration, brackets in --name, folders that begin with a dash, no FILE.
draw data 2 4 2
echo '{"model_name": "icarl", "init_cls": 1, "increment": 1, "num_workers": 0, "convnet_type": "resnet32", "seed": [1993], "device": ["-1"]}' > config.json
run escort train data --config config.json --image-size 32 --epochs 1 --budget 20KB --out run
echo "--- brackets"
picture 'other/a/[a]1.png' 'other/a/[a]2.png' other/a/a1.png
run escort encode other other.escx
for name in '[a]1.png' '[a]*' 'a1*'; do
    rm -rf other; escort decode other.escx --seeds 0 --name "$name" >/dev/null 2>&1; echo "$name: $(ls other/a | tr '\n' ' ')"
done
echo "--- a dash"
mkdir -- -data; cp -r data/train -- -data/train
run escort encode -- -data -out.escx
escort decode --seeds 0 -- -out.escx 2>&1 | grep made
echo "--- no FILE"
mkdir empty two; cp other.escx two/a.escx; cp other.escx two/b.escx
for place in empty two; do (cd $place; SHOWN=. run escort decode --seeds 0); done
mkdir one; cp other.escx one/x.escx; cd one
escort decode --seeds 0 2>&1 | grep -v files/s
