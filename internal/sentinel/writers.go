package sentinel

import (
	"path/filepath"
	"strings"
)

// The files that are known. SUSE's packages write into theirs which kind of reboot they need: "reboot", "kexec" or
// "soft-reboot".
const (
	Required = "/run/reboot-required" // of Debian, and others
	Needed   = "/run/reboot-needed"   // of SUSE
)

// writers are what creates the files that are known, as paths below "/" or patterns for them.
var writers = map[string][]string{
	Required: {
		"/etc/kernel/postinst.d/unattended-upgrades",        // Debian, Ubuntu
		"/usr/share/update-notifier/notify-reboot-required", // Ubuntu: update-notifier-common
		"/etc/kernel/postinst.d/reboot-notifier",            // Debian
		"/usr/bin/bootc",                                    // Fedora and RHEL as an image
		"/usr/sbin/update_engine",                           // Flatcar
		"/usr/sbin/transactional-update",                    // SUSE, with REBOOT_METHOD=kured
	},
	Needed: {"/usr/lib/zypp/plugins/commit/*boot*", "/usr/sbin/transactional-update"}, // SUSE
}

// Written reports whether anything on the host below root creates the file at a path. For a file that is not known it
// reports true.
func Written(root, path string) bool {
	patterns, known := writers[strings.TrimPrefix(path, "/var")] // /var/run leads to /run
	for _, pattern := range patterns {
		if found, _ := filepath.Glob(filepath.Join(root, pattern)); len(found) > 0 { // the pattern is right
			return true
		}
	}
	return !known
}
