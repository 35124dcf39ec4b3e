package origin

import "testing"

func TestOf(t *testing.T) {
	for address, want := range map[string]string{
		"192.0.2.7:4711":            "192.0.2.7",
		"192.0.2.7":                 "192.0.2.7",
		"[::ffff:192.0.2.7]:4711":   "192.0.2.7",
		"[2001:db8:1:2:3:4:5:6]:80": "2001:db8:1:2::/64",
		"2001:db8:1:2::9":           "2001:db8:1:2::/64",
		"[2001:db8:1:3::9]:80":      "2001:db8:1:3::/64",
		"[fe80::1%eth0]:80":         "fe80::/64",
		"[::1]:80":                  "::/64",
		"/run/locksmith/serve.sock": "/run/locksmith/serve.sock",
		"":                          "",
	} {
		if got := Of(address); got != want {
			t.Errorf("%q is of %q, want %q", address, got, want)
		}
	}
}
