package config

import (
	"crypto/x509"
	"errors"
	"io/fs"
	"net/url"
	"os"
	"regexp"
	"regexp/syntax"
	"strings"

	"github.com/locksmithd/locksmith/internal/readfile"
)

// alertText returns the parser of a text for alerts, which any text can be.
func alertText(to func(*Alerts) *string) func(*parser, input) error {
	return func(p *parser, in input) error {
		*to(&p.Alerts) = in.value
		return nil
	}
}

// alertURL returns the parser of the URL of a server that is asked for alerts.
func alertURL(to func(*Alerts) *string) func(*parser, input) error {
	return func(p *parser, in input) error {
		if in.value == "" {
			return nil
		}
		u, err := url.Parse(in.value)
		switch {
		case strings.Contains(in.value, "@"):
			return in.refuse("it has a user in it: write a bearer token into a file, and set %s", p.inputs[nameAlertTokenFile].Variable)
		case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
			return in.refuse("it is not the URL of a server: write http:// or https://, the host, and the port if the server needs one, such as https://monitoring.example:9090")
		case u.RawQuery != "", u.Fragment != "":
			return in.refuse("it has more than the address of the server: leave out what begins with ? or #")
		}
		*to(&p.Alerts) = u.String()
		return nil
	}
}

func parseAlertIgnore(p *parser, in input) error {
	if in.value == "" {
		return nil
	}
	_, err := regexp.Compile(in.value)
	if err == nil {
		p.Alerts.Ignore, err = regexp.Compile("^(?:" + in.value + ")$") // as Prometheus and Alertmanager match
	}
	var wrong *syntax.Error
	if errors.As(err, &wrong) {
		return in.refuse("it is not a regular expression: %s: write one that matches whole names, such as Watchdog|Backup.*", wrong.Code)
	}
	return nil
}

// maxCAFile bounds how much is read of a file with certificate authorities. That of a system has about 200 KiB.
const maxCAFile = 4 << 20

// warnOfAlerts warns of settings for alerts that have no effect, and of files that cannot be used. Such a file does
// not stop the daemon, because it is read again each time: until it is right, this host does not reboot.
func warnOfAlerts(p *parser) error {
	prometheus, alertmanager := p.inputs[namePrometheusURL], p.inputs[nameAlertmanagerURL]
	asked := p.Alerts.PrometheusURL != "" || p.Alerts.AlertmanagerURL != ""
	if in := p.inputs[nameQuery]; in.origin.Kind != FromDefault && prometheus.value == "" {
		p.warn("%s: it has no effect without %s", in.subject(), prometheus.Variable)
	}
	for _, name := range []string{nameAlertIgnore, nameAlertCAFile, nameAlertTokenFile} {
		if in := p.inputs[name]; in.value != "" && prometheus.value == "" && alertmanager.value == "" {
			p.warn("%s: it has no effect without %s or %s", in.subject(), prometheus.Variable, alertmanager.Variable)
		}
	}
	if !asked {
		return nil
	}
	if in := p.inputs[nameAlertCAFile]; in.value != "" {
		data, err := readfile.Read(in.value, maxCAFile)
		switch {
		case !strings.HasPrefix(p.Alerts.PrometheusURL, "https:") && !strings.HasPrefix(p.Alerts.AlertmanagerURL, "https:"):
			p.warn("%s: it has no effect, because no connection for alerts is encrypted: write https in the URL", in.subject())
		case err != nil:
			p.unusable(in, err)
		case !x509.NewCertPool().AppendCertsFromPEM(data):
			p.unusable(in, errors.New("there is no certificate in it"))
		}
	}
	if in := p.inputs[nameAlertTokenFile]; in.value != "" {
		switch info, err := os.Stat(in.value); {
		case err != nil:
			p.unusable(in, err)
		case !info.Mode().IsRegular():
			p.unusable(in, errors.New("it is not a regular file"))
		default:
			p.warnOfReaders(in, in.value)
		}
	}
	return nil
}

// unusable warns of a file for alerts, unless it is only this user who may not read it.
func (p *parser) unusable(in input, err error) {
	if !errors.Is(err, fs.ErrPermission) {
		p.warn("%s: this host does not reboot until the file can be used: %v", in.subject(), err)
	}
}
