package gates

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/locksmithd/locksmith/internal/policy"
	"github.com/locksmithd/locksmith/internal/safetext"
)

// DefaultQuery is what Prometheus is asked if nothing else is set: all firing alerts.
const DefaultQuery = `ALERTS{alertstate="firing"}`

// Alerts says where alerts are asked for. The zero one asks nobody.
type Alerts struct {
	PrometheusURL   string         // without the path of its API; "" if it is not asked
	Query           string         // what Prometheus is asked; a result that is not empty counts as alerts. "": DefaultQuery
	AlertmanagerURL string         // without the path of its API; "" if it is not asked
	Ignore          *regexp.Regexp // matches names of alerts that do not count; nil if all count
	CAFile          string         // certificate authorities for https; "" for those of the system
	TokenFile       string         // of the bearer token that is sent; "" for none
}

// A source is a server that knows of alerts.
type source struct {
	name, setting string
	url           string // as it is set
	path          string // of the API
	query         url.Values
	// names returns the names of the alerts in the body of an answer with status 200.
	// An error that is not one of package json is a refusal, errOther, or what is wrong with the question.
	names func(body []byte) ([]string, error)
}

// sources returns the servers that are asked.
func (a Alerts) sources() (all []source) {
	if a.PrometheusURL != "" {
		query := a.Query
		if query == "" {
			query = DefaultQuery
		}
		all = append(all, source{"Prometheus", "LOCKSMITHD_PROMETHEUS_URL", a.PrometheusURL, "api/v1/query", url.Values{"query": {query}}, inPrometheus})
	}
	if a.AlertmanagerURL != "" {
		active := url.Values{"active": {"true"}, "silenced": {"false"}, "inhibited": {"false"}}
		all = append(all, source{"Alertmanager", "LOCKSMITHD_ALERTMANAGER_URL", a.AlertmanagerURL, "api/v2/alerts", active, inAlertmanager})
	}
	return all
}

// ask asks all sources at the same time. The first one that says no counts.
func (a Alerts) ask(ctx context.Context) *policy.Obstacle {
	sources := a.sources()
	answers := make([]chan *policy.Obstacle, len(sources))
	for i, s := range sources {
		answers[i] = make(chan *policy.Obstacle, 1)
		go func() { answers[i] <- a.askOne(ctx, s) }()
	}
	var first *policy.Obstacle
	for _, answer := range answers {
		if o := <-answer; first == nil {
			first = o
		}
	}
	return first
}

func (a Alerts) askOne(ctx context.Context, s source) *policy.Obstacle {
	ctx, cancel := context.WithTimeoutCause(ctx, alertsTimeout, fmt.Errorf("no answer within %v", alertsTimeout))
	defer cancel()
	names, err := a.fetch(ctx, s)
	if err != nil {
		text := fmt.Sprintf("%s, which does not say whether alerts are firing: %s", s.name, safetext.Cut(err.Error(), maxText))
		return &policy.Obstacle{Kind: policy.Alerts, Text: text}
	}
	if len(names) == 0 {
		return nil
	}
	for i := range names {
		names[i] = safetext.Cut(names[i], 64)
	}
	slices.Sort(names)
	return &policy.Obstacle{Kind: policy.Alerts, Text: fmt.Sprintf("alerts in %s (%s)", s.name, safetext.List(slices.Compact(names)))}
}

// fetch returns the names of the alerts of a source that count. Neither they nor the error show the token, which a server
// may repeat, since everybody may read the status. What an answer means is decided before that is hidden.
func (a Alerts) fetch(ctx context.Context, s source) ([]string, error) {
	u, err := url.Parse(s.url)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("%s is not an address such as http://127.0.0.1:9090", s.setting)
	}
	u = u.JoinPath(s.path)
	query := u.Query()
	for key, values := range s.query {
		query[key] = values
	}
	u.RawQuery = query.Encode()
	token, err := a.token()
	var got answer
	if err == nil {
		got, err = a.get(ctx, u, token)
	}
	var names []string
	if err == nil {
		names, err = s.read(got)
	}
	var other notHTTP
	if errors.As(err, &other) {
		err = fmt.Errorf("no answer of HTTP (%w); %s has to be the address of %s", other.error, s.setting, s.name)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %s", shown(u), safetext.Hide(err.Error(), token))
	}
	if a.Ignore != nil {
		names = slices.DeleteFunc(names, a.Ignore.MatchString)
	}
	for i := range names {
		names[i] = safetext.Hide(names[i], token)
	}
	return names, nil
}

// shown is an address without what may be secret: the user, the password and the query.
func shown(u *url.URL) string {
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}).String()
}

// read returns the names of the alerts in an answer, or what is wrong with it and what would be right.
func (s source) read(a answer) ([]string, error) {
	said := a.said()
	names, err := s.names(a.body)
	var refused refusal
	if errors.As(err, &refused) {
		said = fmt.Sprintf(" (%s)", refused)
	}
	switch {
	case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden:
		return nil, fmt.Errorf("status %s%s; LOCKSMITHD_ALERT_TOKEN_FILE names the file of a token", a.text, said)
	case a.status == http.StatusNotFound:
		return nil, fmt.Errorf("status %s%s; %s has to be the address of %s", a.text, said, s.setting, s.name)
	case a.status != http.StatusOK:
		return nil, fmt.Errorf("status %s%s", a.text, said)
	case len(a.body) == 0:
		return nil, fmt.Errorf("an empty answer; %s has to be the address of %s", s.setting, s.name)
	}
	var syntax *json.SyntaxError
	var kind *json.UnmarshalTypeError
	if errors.As(err, &syntax) || errors.As(err, &kind) || errors.Is(err, errOther) {
		return nil, fmt.Errorf("an answer%s that is not %s's%s; %s has to be the address of %s", a.content(), s.name, said, s.setting, s.name)
	}
	return names, err
}

// refusal is why a source does not answer a question.
type refusal string

func (r refusal) Error() string { return string(r) }

// errOther means that something else than the source has answered.
var errOther = errors.New("the answer has another form")

// labels are those of an alert, or of a series.
type labels map[string]string

// name returns the name of an alert, or of what else a query finds.
func (l labels) name() string {
	for _, key := range []string{"alertname", "__name__"} {
		if l[key] != "" {
			return l[key]
		}
	}
	return "without a name"
}

// prometheus is an answer of Prometheus, and of what has its API.
type prometheus struct {
	Status    string   `json:"status"`
	ErrorType string   `json:"errorType"`
	Error     string   `json:"error"`
	Warnings  []string `json:"warnings"`
	Data      struct {
		ResultType string          `json:"resultType"`
		Result     json.RawMessage `json:"result"`
	} `json:"data"`
}

// inPrometheus returns the names of the series in an answer of Prometheus.
func inPrometheus(body []byte) ([]string, error) {
	var p prometheus
	if err := json.Unmarshal(body, &p); err != nil {
		return nil, err
	}
	switch {
	case p.Status == "error":
		return nil, refusal(p.ErrorType + ": " + p.Error)
	case p.Status != "success" || p.Data.ResultType == "":
		return nil, errOther
	case p.Data.ResultType != "vector":
		return nil, fmt.Errorf("the query has a result of type %s; LOCKSMITHD_PROMETHEUS_QUERY has to ask for an instant vector, which is empty if this host may reboot", p.Data.ResultType)
	}
	var vector []struct{ Metric labels }
	if err := json.Unmarshal(p.Data.Result, &vector); err != nil || vector == nil {
		return nil, errOther
	}
	names := make([]string, len(vector))
	for i, v := range vector {
		names[i] = v.Metric.name()
	}
	// Remarks about the query begin with "PromQL". Others say that the answer is incomplete.
	if i := slices.IndexFunc(p.Warnings, func(w string) bool { return !strings.HasPrefix(w, "PromQL ") }); i >= 0 {
		return nil, fmt.Errorf("an answer that may be incomplete: %s", p.Warnings[i])
	}
	return names, nil
}

// inAlertmanager returns the names of the alerts in an answer of Alertmanager.
func inAlertmanager(body []byte) ([]string, error) {
	var alerts []struct{ Labels labels }
	if err := json.Unmarshal(body, &alerts); err != nil {
		return nil, err
	}
	if alerts == nil {
		return nil, errOther
	}
	names := make([]string, len(alerts))
	for i, a := range alerts {
		names[i] = a.Labels.name()
	}
	return names, nil
}
