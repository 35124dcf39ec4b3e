package updateengine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/godbus/dbus/v5"
)

// Trust says who, besides update_engine, may announce that a reboot is needed. Root and the user that this
// process runs as always may: both can reboot the machine, or end this process, by other means.
type Trust struct {
	// Groups are the names of the groups whose members may. A group that does not exist has no members.
	Groups []string
	// Root is the folder below which the user database is found, "" for /.
	Root string
}

// The user database. It is not read with os/user, which knows only /etc: on Flatcar and other image-based
// systems nss-altfiles adds the distribution's own users and groups, wheel and sudo among them.
var (
	groupFiles  = [...]string{"/etc/group", "/usr/share/baselayout/group", "/usr/lib/group"}
	passwdFiles = [...]string{"/etc/passwd", "/usr/share/baselayout/passwd", "/usr/lib/passwd"}
)

// credentials are what the bus knows about a connection.
type credentials struct {
	uid       uint32
	gids      []uint32 // all groups of the process
	gidsKnown bool     // older buses do not report groups
	pid       uint32   // 0 when unknown
}

// readCredentials asks the bus for the process of a connection, see GetConnectionCredentials in the D-Bus
// specification. The answer is what the kernel said about the process when it connected.
func readCredentials(ctx context.Context, conn *dbus.Conn, sender string) (credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var fields map[string]dbus.Variant
	err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.GetConnectionCredentials", 0, sender).Store(&fields)
	if err != nil {
		return credentials{}, fmt.Errorf("ask the bus who sent it: %w", err)
	}
	var c credentials
	uid, ok := fields["UnixUserID"].Value().(uint32)
	if !ok {
		return credentials{}, errors.New("ask the bus who sent it: it does not know the user")
	}
	c.uid = uid
	c.gids, c.gidsKnown = fields["UnixGroupIDs"].Value().([]uint32)
	c.pid, _ = fields["ProcessID"].Value().(uint32)
	return c, nil
}

// Believes reports whether a Client that runs as root believes signals sent on conn, and names the user of
// conn as the bus knows it. An error means that this could not be found out.
func (t Trust) Believes(ctx context.Context, conn *dbus.Conn) (believed bool, user string, err error) {
	c, err := readCredentials(ctx, conn, conn.Names()[0])
	if err != nil {
		return false, "", err
	}
	believed, err = t.includes(c)
	return believed, t.userOf(c), err
}

// accepts reports whether a process with these credentials may announce a reboot. An error means that this
// could not be found out.
func (t Trust) accepts(c credentials) (bool, error) {
	if int64(c.uid) == int64(os.Geteuid()) {
		return true, nil
	}
	return t.includes(c)
}

// includes reports whether the credentials are root's or a group member's.
func (t Trust) includes(c credentials) (bool, error) {
	if c.uid == 0 {
		return true, nil
	}
	if len(t.Groups) == 0 {
		return false, nil
	}
	groups, err := t.lookup(groupFiles[:])
	if err != nil {
		return false, fmt.Errorf("read the group database: %w", err)
	}
	user, primary := "", ""
	if !c.gidsKnown {
		if user, primary, err = t.account(c.uid); err != nil {
			return false, fmt.Errorf("read the user database: %w", err)
		}
	}
	seen := make(map[string]bool)
	for _, g := range groups {
		// group(5): name:password:GID:member,member. As with the name service, the first file that has a group
		// defines it.
		if len(g) < 4 || !slices.Contains(t.Groups, g[0]) || seen[g[0]] {
			continue
		}
		seen[g[0]] = true
		gid, err := strconv.ParseUint(g[2], 10, 32)
		member := err == nil && slices.Contains(c.gids, uint32(gid))
		if !c.gidsKnown {
			member = user != "" && (g[2] == primary || slices.Contains(strings.Split(g[3], ","), user))
		}
		if member {
			return true, nil
		}
	}
	return false, nil
}

// account returns the login name and primary group of a user, both empty if the database does not have the user.
func (t Trust) account(uid uint32) (user, gid string, err error) {
	users, err := t.lookup(passwdFiles[:])
	if err != nil {
		return "", "", err
	}
	for _, u := range users {
		// passwd(5): name:password:UID:GID:...
		if len(u) >= 4 && u[2] == strconv.FormatUint(uint64(uid), 10) {
			return u[0], u[3], nil
		}
	}
	return "", "", nil
}

// lookup returns the fields of every line of the files that exist.
func (t Trust) lookup(files []string) ([][]string, error) {
	var lines [][]string
	for _, name := range files {
		file, err := os.Open(filepath.Join(t.Root, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		scanner := bufio.NewScanner(file)
		scanner.Buffer(nil, 1<<20) // a group may have very many members
		for scanner.Scan() {
			lines = append(lines, strings.Split(scanner.Text(), ":"))
		}
		file.Close()
		if err := scanner.Err(); err != nil {
			return nil, fmt.Errorf("%s: %w", file.Name(), err)
		}
	}
	return lines, nil
}

// describe names a sender for the operator. Only the user id is certain: the process may have changed its
// name, or its number may be another process's by now.
func (t Trust) describe(c credentials) string {
	process := "?"
	if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", c.pid)); err == nil && c.pid != 0 {
		process = strings.TrimSpace(string(comm))
	}
	return fmt.Sprintf("%s, process %q (pid %d)", t.userOf(c), process, c.pid)
}

func (t Trust) userOf(c credentials) string {
	user, _, err := t.account(c.uid)
	if err != nil || user == "" {
		user = "?"
	}
	return fmt.Sprintf("user %q (uid %d)", user, c.uid)
}
