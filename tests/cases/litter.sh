# What systems and escort itself leave in folders is no class and no image.
draw data 2 4 2
cd data/train
mkdir -p balloon/@eaDir/000.jpg @eaDir/x '$RECYCLE.BIN/S-1' lost+found '#recycle'
for place in balloon/@eaDir/000.jpg @eaDir/x '$RECYCLE.BIN/S-1' '#recycle'; do cp balloon/001.jpg "$place/thumbnail.jpg"; done
for name in ehthumbs.db ZbThumbnail.info $'Icon\r'; do : > "balloon/$name"; done
echo '{}' > balloon/000.jpg.json
cd ../..
run escort encode data out.escx
prompts out.escx
