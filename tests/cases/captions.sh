# Captions in the forms that people have them; what matches nothing is counted.
try() {
    echo "--- $1"
    run escort encode data out.escx --force --on-error skip $PLAIN
    prompts out.escx
    rm -r data
}
write() { python -c "
import sys, json
from pathlib import Path
Path(sys.argv[1]).write_text(eval(sys.argv[2]), 'utf-8')" "$@"; }
picture data/train/cat/1.png; write data/train/metadata.jsonl 'json.dumps({"file_name": "cat/1.png", "text": "a cat\u2028on a mat"}, ensure_ascii=False) + "\n"'
try "a line separator in a caption"
picture data/train/cat/$'cafe\u0301.png'; write data/train/metadata.jsonl 'json.dumps({"file_name": "cat/caf\u00e9.png", "text": "a cat in a cafe"})'
try "two Unicode forms of a name"
picture data/train/cat/1.png; write data/train/metadata.jsonl 'json.dumps({"file_name": "cat\\1.png", "text": "a cat"})'
try "backslashes"
picture data/train/cat/1.png; write data/train/metadata.jsonl 'json.dumps({"file_name": "cats/1.png", "text": "a cat"})'
try "an entry that names no file"
picture data/train/cat/1.png; write data/train/metadata.jsonl 'json.dumps({"file_name": "cat/1.png", "caption": "a cat"})'
try "another key"
picture data/train/cat/1.png; printf 'file_name,text\ncat/1.png,a cat on a mat\n' > data/train/metadata.csv
try "metadata.csv"
picture data/train/cat/1.png; printf 'file_name,text\n1.png,a cat on a mat\n' > data/train/cat/metadata.csv
try "metadata.csv in the class folder"
picture data/train/cat/1.png; write data/train/metadata.jsonl 'json.dumps({"file_name": "cat/1.png", "text": ["a cat", "a tabby"]})'
try "a list of captions"
picture data/train/cat/1.png; printf 'un caf\xe9 au lait' > data/train/cat/1.txt
try "Latin-1"
picture data/train/cat/1.png; printf '\xff\xfea\0 \0c\0a\0t\0' > data/train/cat/1.txt
try "UTF-16"
picture data/train/cat/1.png; printf '0 0.51 0.43 0.20 0.31\n1 0.1 0.2 0.3 0.4\n' > data/train/cat/1.txt
try "boxes"
