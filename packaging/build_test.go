package packaging

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locksmithd/locksmith/test/must"
	"github.com/locksmithd/locksmith/test/realpart"
)

// commitDate is the date that git archive would write into the sources.
const commitDate = "1700000001"

// built is a copy of the sources in which the packages have been made.
type built struct{ dir string }

var (
	first           = sync.OnceValues(build)
	firstKubernetes = sync.OnceValues(buildKubernetes)
	folder          string // of the copies, removed after the tests
)

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if folder, err = os.MkdirTemp("", "packaging"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(folder)
		return m.Run()
	}())
}

// packages builds those of locksmith, once for all tests.
func packages(t *testing.T) built {
	t.Helper()
	realpart.Must(t, realpart.Tool("dpkg-deb", "dpkg"), realpart.Tool("rpm", "rpm"), realpart.Tool("mksquashfs", "squashfs-tools"))
	b, err := first()
	must.Do(t, err)
	return b
}

// kubernetesPackages builds those of locksmith-kubernetes as well, once for all tests.
func kubernetesPackages(t *testing.T) built {
	t.Helper()
	packages(t)
	b, err := firstKubernetes()
	must.Do(t, err)
	return b
}

func build() (built, error) {
	b := built{filepath.Join(folder, "first")}
	if err := copySources(b.dir); err != nil {
		return b, err
	}
	return b, b.run(nil, "make", "deb", "rpm", "sysext")
}

func buildKubernetes() (built, error) {
	b, err := first()
	if err != nil {
		return b, err
	}
	return b, b.run(nil, "make", "kubernetes-deb", "kubernetes-rpm", "kubernetes-sysext")
}

// run runs a command in the copy, without the variables of a make that runs the
// tests.
func (b built) run(environ []string, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = b.dir
	cmd.Env = append(slices.DeleteFunc(os.Environ(), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains([]string{"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "SOURCE_DATE_EPOCH"}, name)
	}), environ...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("run %s: %w\n%s", cmd, err, out)
	}
	return nil
}

// path returns the path of a file in dist/.
func (b built) path(name string) string { return filepath.Join(b.dir, "dist", name) }

// copySources copies the sources as git archive would.
func copySources(to string) error {
	return filepath.WalkDir("..", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel("..", path)
		switch {
		case err != nil:
			return err
		case name == ".git" || name == "bin" || name == "dist":
			if entry.IsDir() {
				return filepath.SkipDir
			}
			return nil
		case entry.IsDir():
			return os.MkdirAll(filepath.Join(to, name), 0o755)
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if name == "packaging/epoch" {
			data = bytes.Replace(data, []byte("$Format:%ct$"), []byte(commitDate), 1)
		}
		return os.WriteFile(filepath.Join(to, name), data, info.Mode().Perm())
	})
}

// versionOf returns the version in the Makefile.
func versionOf(t *testing.T) string {
	t.Helper()
	makefile, err := os.ReadFile("../Makefile")
	must.Do(t, err)
	for line := range strings.Lines(string(makefile)) {
		if version, found := strings.CutPrefix(line, "VERSION := "); found {
			return strings.TrimSpace(version)
		}
	}
	t.Fatal("the Makefile has no line that begins with VERSION := ")
	return ""
}

// The second build has another folder, user, time zone, language and umask, two jobs at
// a time, and sources that are an hour older and writable for the group. The packages of locksmith-kubernetes are made by
// the same scripts, and so for one architecture only.
func TestSameSourcesGiveTheSameBytes(t *testing.T) {
	a := kubernetesPackages(t)
	b := built{filepath.Join(folder, "another", "folder")}
	must.Do(t, copySources(b.dir))
	if err := filepath.WalkDir(b.dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if err := os.Chmod(path, info.Mode()|0o020); err != nil {
			return err
		}
		then := time.Now().Add(-time.Hour)
		return os.Chtimes(path, then, then)
	}); err != nil {
		t.Fatal(err)
	}
	environ := []string{"TZ=Pacific/Kiritimati", "LC_ALL=C.UTF-8", "LANGUAGE=de"}
	user := []string{"--user", "--map-user=1000", "--map-group=1000"} // root's files look like this user's
	must.Do(t, b.run(environ, "unshare", append(user, "sh", "-c", "umask 0077; make -j2 deb rpm sysext && make -j2 kubernetes-deb kubernetes-rpm kubernetes-sysext ARCHES=amd64")...))
	version := versionOf(t)
	for _, name := range []string{
		"locksmith_" + version + "_amd64.deb", "locksmith_" + version + "_arm64.deb",
		"locksmith-" + version + "-1.x86_64.rpm", "locksmith-" + version + "-1.aarch64.rpm",
		"locksmith-" + version + "-x86-64.raw", "locksmith-" + version + "-arm64.raw",
		"locksmith-kubernetes_" + version + "_amd64.deb", "locksmith-kubernetes-" + version + "-1.x86_64.rpm",
		"locksmith-kubernetes/locksmith-kubernetes-" + version + "-x86-64.raw",
	} {
		x, err := os.ReadFile(a.path(name))
		if err != nil {
			t.Error(err)
			continue
		}
		y, err := os.ReadFile(b.path(name))
		if err != nil {
			t.Error(err)
			continue
		}
		if !bytes.Equal(x, y) {
			t.Errorf("%s differs: sha256 %x and %x", name, sha256.Sum256(x), sha256.Sum256(y))
		}
	}
}

// Most licences have to be distributed with the programs. The packages of locksmith-kubernetes are made by the same scripts.
func TestNoPackageIsMadeWithoutAllLicences(t *testing.T) {
	b := packages(t)
	goTool, err := exec.LookPath("go")
	must.Do(t, err)
	for _, test := range []struct{ name, script string }{
		{"go does not run", "exit 1"},
		{"go names some of the modules", `"$GO" "$@" | head -3; [ "$1" != list ]`},
		{"a module has no licence", `"$GO" "$@"; [ "$1" != list ] || echo example.com/unlicensed v1.0.0 example.com/unlicensed /nonexistent`},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			must.Do(t, os.WriteFile(filepath.Join(dir, "go"), []byte("#!/bin/sh\n"+test.script+"\n"), 0o755))
			environ := []string{"GO=" + goTool, "PATH=" + dir + ":" + os.Getenv("PATH")}
			for _, format := range []string{"deb", "rpm"} {
				if err := b.run(environ, "packaging/build-"+format, "locksmith", versionOf(t), "amd64", filepath.Join(dir, format)); err == nil {
					t.Errorf("build-%s succeeds", format)
				}
			}
			if err := b.run(environ, "packaging/build-sysext", "locksmith", versionOf(t), "amd64", dir); err == nil {
				t.Error("build-sysext succeeds")
			}
			for _, name := range []string{"deb", "rpm", "locksmith-" + versionOf(t) + "-x86-64.raw"} {
				if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("there is the package %s (%v)", name, err)
				}
			}
		})
	}
}

func TestDateOfPackages(t *testing.T) {
	script, err := os.ReadFile("epoch")
	must.Do(t, err)
	const changelogDate = 1550000000
	sources := func(script []byte) string {
		dir := t.TempDir()
		must.Do(t, os.Mkdir(filepath.Join(dir, "packaging"), 0o755))
		changelog := filepath.Join(dir, "CHANGELOG.md")
		for path, text := range map[string][]byte{filepath.Join(dir, "packaging", "epoch"): script, changelog: nil} {
			must.Do(t, os.WriteFile(path, text, 0o755))
		}
		must.Do(t, os.Chtimes(changelog, time.Unix(changelogDate, 0), time.Unix(changelogDate, 0)))
		return dir
	}
	plain, checkout := sources(script), sources(script)
	archive := sources(bytes.Replace(script, []byte("$Format:%ct$"), []byte(commitDate), 1))
	for _, args := range [][]string{
		{"init", "-q"},
		{"add", "."},
		{"-c", "user.name=locksmith", "-c", "user.email=locksmith@localhost", "commit", "-q", "-m", "a commit"},
	} {
		git := exec.Command("git", append([]string{"-C", checkout}, args...)...)
		git.Env = append(os.Environ(), "GIT_COMMITTER_DATE=1600000000 +0200")
		if out, err := git.CombinedOutput(); err != nil {
			t.Fatalf("git: %v: install the package git\n%s", err, out)
		}
	}
	for _, test := range []struct{ name, dir, environ, want string }{
		{"of an archive", archive, "", commitDate},
		{"of a checkout", checkout, "", "1600000000"},
		{"from the environment", archive, "1500000000", "1500000000"},
		{"of neither", plain, "", fmt.Sprint(changelogDate)},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := exec.Command(filepath.Join(test.dir, "packaging", "epoch"))
			cmd.Env = append(os.Environ(), "SOURCE_DATE_EPOCH="+test.environ, "GIT_CEILING_DIRECTORIES="+filepath.Dir(test.dir))
			out, err := cmd.Output()
			if got := strings.TrimSpace(string(out)); got != test.want || err != nil {
				t.Errorf("it is %q (%v), want %q", got, err, test.want)
			}
		})
	}
}
