package view

import "time"

// Elapsed formats the time between two as in the tables: "42s", "12m", "3h05m", "4d03h"; "" if the first is not known.
func Elapsed(from, to time.Time) string { return elapsed(from, to) }

// Timestamp formats a time in the zone of now; "" for one that is not known.
func Timestamp(t, now time.Time) string { return timestamp(t, now) }

// Marshal writes a document for programs. No terminal acts upon a character of it.
func (f Format) Marshal(document any) (string, error) { return f.marshal(document) }
