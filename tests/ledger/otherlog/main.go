// Another implementation of the log, from Go's checksum database: it writes a log in static files, reads one that we
// wrote, and makes and checks proofs. tests/ledger/test_other_log.py drives it; nothing of ours is used here.
//
//	otherlog write DIR ORIGIN < bundle      entries as in tile/entries: ( u16 length || entry ) *; prints the vkey
//	otherlog read  DIR VKEY                 signature, root and every tile, or exit 1; prints "<size> <root>"
//	otherlog prove DIR < [{"Index":..,"Old":..}]      prints the same with Leaf, Root, OldRoot, Record and Tree
//	otherlog check < [{...}]                prints one line for each: ok, or what is wrong
package main

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

// hashes is every stored hash of a log, in memory, in tlog's own order.
type hashes []tlog.Hash

func (all hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, index := range indexes {
		out[i] = all[index]
	}
	return out, nil
}

// files serves the tiles of a folder in the layout of c2sp.org/tlog-tiles, which leaves the height out of the path.
type files struct{ dir string }

func (f files) Height() int                         { return height }
func (f files) SaveTiles(_ []tlog.Tile, _ [][]byte) {}
func (f files) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(tiles))
	for i, tile := range tiles {
		data, err := os.ReadFile(filepath.Join(f.dir, path(tile)))
		if err != nil {
			return nil, err
		}
		out[i] = data
	}
	return out, nil
}

func path(tile tlog.Tile) string {
	out := strings.Replace(tile.Path(), fmt.Sprintf("tile/%d/", height), "tile/", 1)
	return strings.Replace(out, "tile/data/", "tile/entries/", 1)
}

type proofs struct {
	Size, Index, Old    int64
	Leaf, Root, OldRoot tlog.Hash
	Record, Tree        []tlog.Hash
}

func main() {
	log.SetFlags(0)
	switch args := os.Args[1:]; {
	case len(args) == 3 && args[0] == "write":
		write(args[1], args[2], split(must(io.ReadAll(os.Stdin))))
	case len(args) == 3 && args[0] == "read":
		read(args[1], args[2])
	case len(args) == 2 && args[0] == "prove":
		prove(args[1])
	case len(args) == 1 && args[0] == "check":
		check()
	default:
		log.Fatal("usage: otherlog write|read|prove|check")
	}
}

func write(dir, origin string, entries [][]byte) {
	size, all := int64(len(entries)), grow(entries)
	for _, tile := range tlog.NewTiles(height, 0, size) {
		// NewTiles lists every partial width on the way; a log needs the widest.
		if next := tile; tile.W < 1<<height {
			if next.W++; next.N<<height+int64(next.W) <= size>>uint(height*tile.L) {
				continue
			}
		}
		save(dir, path(tile), must(tlog.ReadTileData(tile, all)))
		if tile.L == 0 {
			var bundle []byte
			for _, entry := range entries[tile.N<<height : tile.N<<height+int64(tile.W)] {
				bundle = append(binary.BigEndian.AppendUint16(bundle, uint16(len(entry))), entry...)
			}
			tile.L = -1
			save(dir, path(tile), bundle)
		}
	}
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	fatal(err)
	root := must(tlog.TreeHash(size, all))
	text := fmt.Sprintf("%s\n%d\n%s\n", origin, size, root)
	save(dir, "checkpoint", must(note.Sign(&note.Note{Text: text}, must(note.NewSigner(skey)))))
	fmt.Println(vkey)
}

func read(dir, vkey string) {
	verifier := must(note.NewVerifier(vkey))
	signed := must(note.Open(must(os.ReadFile(filepath.Join(dir, "checkpoint"))), note.VerifierList(verifier)))
	lines := strings.Split(signed.Text, "\n")
	size, root := must(strconv.ParseInt(lines[1], 10, 64)), must(tlog.ParseHash(lines[2]))
	if lines[0] != verifier.Name() {
		log.Fatal("the origin is not the key's name")
	}
	entries := load(dir, size)
	// Once from the entries alone, once leaf by leaf through the tiles, each of which tlog checks under the root.
	if must(tlog.TreeHash(size, grow(entries))) != root {
		log.Fatal("the entries do not lead to the root")
	}
	reader := tlog.TileHashReader(tlog.Tree{N: size, Hash: root}, files{dir})
	for start := int64(0); start < size; start += 1 << height {
		var indexes []int64
		for n := start; n < size && n < start+1<<height; n++ {
			indexes = append(indexes, tlog.StoredHashIndex(0, n))
		}
		for i, leaf := range must(reader.ReadHashes(indexes)) {
			if leaf != tlog.RecordHash(entries[start+int64(i)]) {
				log.Fatalf("entry %d is not the one in its tile", start+int64(i))
			}
		}
	}
	fmt.Println(size, root)
}

func prove(dir string) {
	text := strings.Split(string(must(os.ReadFile(filepath.Join(dir, "checkpoint")))), "\n")
	size := must(strconv.ParseInt(text[1], 10, 64))
	entries := load(dir, size)
	all, list := grow(entries), []proofs{}
	fatal(json.NewDecoder(os.Stdin).Decode(&list))
	for i := range list {
		p := &list[i]
		p.Size, p.Root = size, must(tlog.TreeHash(size, all))
		p.Leaf, p.Record = tlog.RecordHash(entries[p.Index]), must(tlog.ProveRecord(size, p.Index, all))
		p.OldRoot, p.Tree = must(tlog.TreeHash(p.Old, all)), must(tlog.ProveTree(size, p.Old, all))
	}
	fatal(json.NewEncoder(os.Stdout).Encode(list))
}

func check() {
	var list []proofs
	fatal(json.NewDecoder(os.Stdin).Decode(&list))
	for _, p := range list {
		if err := tlog.CheckRecord(p.Record, p.Size, p.Root, p.Index, p.Leaf); err != nil {
			fmt.Println("record:", err)
		} else if err := tlog.CheckTree(p.Tree, p.Size, p.Root, p.Old, p.OldRoot); err != nil {
			fmt.Println("tree:", err)
		} else {
			fmt.Println("ok")
		}
	}
}

func grow(entries [][]byte) hashes {
	var all hashes
	for n, entry := range entries {
		all = append(all, must(tlog.StoredHashes(int64(n), entry, all))...)
	}
	return all
}

func load(dir string, size int64) [][]byte {
	var entries [][]byte
	for n := int64(0); n<<height < size; n++ {
		tile := tlog.Tile{H: height, L: -1, N: n, W: 1 << height}
		if left := size - n<<height; left < 1<<height {
			tile.W = int(left)
		}
		bundle := split(must(os.ReadFile(filepath.Join(dir, path(tile)))))
		if len(bundle) != tile.W {
			log.Fatalf("%s holds %d entries", path(tile), len(bundle))
		}
		entries = append(entries, bundle...)
	}
	return entries
}

func split(bundle []byte) (entries [][]byte) {
	for len(bundle) > 0 {
		end := 2 + int(binary.BigEndian.Uint16(bundle))
		entries, bundle = append(entries, bundle[2:end]), bundle[end:]
	}
	return entries
}

func save(dir, name string, data []byte) {
	target := filepath.Join(dir, name)
	fatal(os.MkdirAll(filepath.Dir(target), 0o755))
	fatal(os.WriteFile(target, data, 0o644))
}

func must[T any](value T, err error) T {
	fatal(err)
	return value
}

func fatal(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
