package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/locksmithd/locksmith/test/etcdtest"
	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

func TestPicturesAreTaken(t *testing.T) {
	_, err := etcdtest.Binary(etcdtest.Newest)
	realpart.Must(t, err, realpart.Tool("chromium", "chromium"))
	bin, out := t.TempDir(), t.TempDir()
	build := exec.Command("go", "build", "-trimpath", "-tags", "grpcnotrace", "-ldflags", "-s -w", "-o", bin, "../../locksmithctl")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	must.Do(t, run(t.Context(), bin, out))
	for _, p := range pictures {
		data, err := os.ReadFile(filepath.Join(out, p.name))
		must.Do(t, err)
		if !bytes.HasPrefix(data, []byte("\x89PNG\r\n")) || len(data) < 10_000 {
			t.Errorf("%s is not a picture of a page: %d bytes", p.name, len(data))
		}
		if info, err := os.Stat(filepath.Join("../../docs/images", p.name)); err != nil || info.Size() > maxPicture {
			t.Errorf("the picture in the documents: %v, %v", info, err)
		}
	}
}
