// Package metrics is /metrics of `locksmithctl serve`, for Prometheus: the fleet as gauges, which are made when somebody
// asks, and counters of what the server has done.
//
// It guarantees that somebody sees only the groups that it may use, as with FleetLock; that a scrape costs the store no more
// than a look at the page does; that few scrapes are under way at once; and that the number of series is bounded whatever
// others have written into the store: by the groups that are served, not by the hosts.
package metrics
