package host

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/locksmithd/locksmith/internal/readfile"
)

// tokenFile is where the tokens are, below root. It has a line for each, the newest one first: the token,
// and the boot in which it was made. The unit's ReadWritePaths= names its folder.
const tokenFile = "/var/lib/locksmith/token"

// keptTokens is how many tokens stay there: more than a host makes between taking a slot and coming back.
const keptTokens = 8

// maxTokenFile bounds what is read of the file, in bytes.
const maxTokenFile = 4096

type token struct {
	value, boot string
}

// tokensOfEarlierBoots returns what a record from before this boot may have. What this boot has written
// does not say that the disk outlives a boot.
func tokensOfEarlierBoots(root, boot string) (earlier []string) {
	tokens, _ := readTokens(filepath.Join(root, tokenFile)) // unreadable is unknown
	for _, t := range tokens {
		if t.boot != boot {
			earlier = append(earlier, t.value)
		}
	}
	return earlier
}

// NewToken writes a new token to the host's disk and returns it. It is for a slot that is about to be
// taken: a host whose disk has the token of a slot after a reboot has taken that slot, or was copied since.
// The tokens before it stay, up to a number, because a slot may be held with one of them. Of two processes
// that do this in one moment, the token of one may be lost.
func NewToken(root string) (string, error) {
	boot, err := BootID(root)
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, tokenFile)
	tokens, err := readTokens(path)
	if err != nil {
		return "", err // what cannot be read is not overwritten
	}
	var value [16]byte
	_, _ = rand.Read(value[:]) // never fails
	tokens = append([]token{{hex.EncodeToString(value[:]), boot}}, tokens...)
	var content bytes.Buffer
	for _, t := range tokens[:min(keptTokens, len(tokens))] {
		fmt.Fprintln(&content, t.value, t.boot)
	}
	if err := replace(path, content.Bytes()); err != nil {
		return "", fmt.Errorf("write %s: %w", path, err)
	}
	return tokens[0].value, nil
}

// readTokens skips lines that are none.
func readTokens(path string) (tokens []token, err error) {
	data, err := readfile.Read(path, maxTokenFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		value, boot, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		if _, err := hex.DecodeString(value); err == nil && len(value) == 32 && boot != "" && strings.HasSuffix(line, "\n") {
			tokens = append(tokens, token{value, boot})
		}
	}
	return tokens, nil
}

// replace writes a file so that it is there, whole, once it returns, also after a power failure.
func replace(path string, content []byte) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, ".token-*")
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(file.Name()))
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	return folder.Sync()
}
