package main

import (
	"fmt"
	"regexp"
	"strings"
)

// roff translates Markdown into the man(7) language, below the given title line. It
// accepts the Markdown of the pages: headings of two levels, paragraphs, lists, literal
// text (fenced, or indented by four columns), tables with two columns, terms with their
// meaning (after ": "), and within a line code, strong and emphasised text, and links. All
// other Markdown is an error.
func roff(title, markdown string) (string, error) {
	w := &writer{}
	w.WriteString(title)
	w.WriteString(".ad l\n")
	lines := strings.Split(strings.ReplaceAll(markdown, "\r", ""), "\n")
	for len(lines) > 0 {
		n, err := w.block(lines)
		if err != nil {
			return "", err
		}
		lines = lines[n:]
	}
	return w.String(), nil
}

type writer struct {
	strings.Builder
	headed bool // a heading has just been written, after which no .PP is needed
}

var (
	listItem  = regexp.MustCompile(`^(?:(\*)|([0-9]+\.)) +(.*)$`)
	tableRule = regexp.MustCompile(`^\|( *-+:? *\|)+$`)
	// paragraphEnd matches the lines that end a paragraph, besides an empty one.
	paragraphEnd = regexp.MustCompile("^(\\||#|```|\\* |[0-9]+\\. )")
	// unsupported matches the first line of all other blocks of Markdown.
	unsupported = regexp.MustCompile(`^(#|<|>|!| |[-+] )`)
)

// block writes the block that begins with the first line, and returns its number of lines.
func (w *writer) block(lines []string) (int, error) {
	first := lines[0]
	switch {
	case strings.TrimSpace(first) == "":
		return 1, nil
	case strings.HasPrefix(first, "# "):
		return 1, w.heading(".SH", first[2:])
	case strings.HasPrefix(first, "## "):
		return 1, w.heading(".SS", first[3:])
	case strings.HasPrefix(first, "```"):
		n := 1
		for n < len(lines) && lines[n] != "```" {
			n++
		}
		if n == len(lines) {
			return 0, fmt.Errorf("literal text is not closed: %q", first)
		}
		w.literal(lines[1:n])
		return n + 1, nil
	case strings.HasPrefix(first, "    "):
		n := 0
		for n < len(lines) && (strings.HasPrefix(lines[n], "    ") || lines[n] == "") {
			n++
		}
		w.literal(strings.Split(strings.TrimRight(strings.ReplaceAll("\n"+strings.Join(lines[:n], "\n"), "\n    ", "\n"), "\n")[1:], "\n"))
		return n, nil
	case strings.HasPrefix(first, "|"):
		return w.table(lines)
	case listItem.MatchString(first):
		m := listItem.FindStringSubmatch(first)
		n, text := 1, m[3]
		for n < len(lines) && strings.HasPrefix(lines[n], "  ") {
			text += "\n" + strings.TrimSpace(lines[n])
			n++
		}
		if m[1] != "" {
			return n, w.item(`.IP \(bu 3`, text)
		}
		return n, w.item(".IP "+m[2]+" 4", text)
	case unsupported.MatchString(first):
		return 0, fmt.Errorf("unsupported Markdown: %q", first)
	}
	n := 1
	for n < len(lines) && lines[n] != "" && !paragraphEnd.MatchString(lines[n]) {
		n++
	}
	if n > 1 && strings.HasPrefix(lines[1], ": ") {
		return n, w.term(first, strings.Join(lines[1:n], "\n")[2:])
	}
	if !w.headed {
		w.WriteString(".PP\n")
	}
	return n, w.text(strings.Join(lines[:n], "\n"))
}

func (w *writer) heading(macro, text string) error {
	w.WriteString(macro + " " + strings.ReplaceAll(escape(text), `"`, "") + "\n")
	w.headed = true
	return nil
}

func (w *writer) literal(lines []string) {
	if !w.headed {
		w.WriteString(".PP\n")
	}
	w.WriteString(".RS 4\n.EX\n")
	for _, line := range lines {
		w.line(escape(line))
	}
	w.WriteString(".EE\n.RE\n")
	w.headed = false
}

func (w *writer) item(macro, text string) error {
	w.WriteString(macro + "\n")
	return w.text(text)
}

func (w *writer) term(term, meaning string) error {
	w.WriteString(".TP\n")
	if err := w.text(term); err != nil {
		return err
	}
	return w.text(meaning)
}

// table writes the rows of a table with two columns as terms with their meaning.
func (w *writer) table(lines []string) (int, error) {
	if len(lines) < 2 || !tableRule.MatchString(lines[1]) {
		return 0, fmt.Errorf("this table has no heading: %q", lines[0])
	}
	n := 2
	for ; n < len(lines) && strings.HasPrefix(lines[n], "|"); n++ {
		cells := strings.Split(strings.Trim(lines[n], "| "), " | ")
		if len(cells) != 2 {
			return 0, fmt.Errorf("a table may have two columns, and this row has %d: %q", len(cells), lines[n])
		}
		if err := w.term(cells[0], cells[1]); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// inline matches code between one or two backticks, **strong**, *emphasised* and [link](url).
var inline = regexp.MustCompile("``\\s?(.+?)\\s?``|`([^`]+)`|\\*\\*([^*]+)\\*\\*|\\*([^*\\s][^*]*)\\*|\\[([^\\]]+)\\]\\(([^)]+)\\)")

// text writes running text.
func (w *writer) text(text string) error {
	var b strings.Builder
	for {
		at := inline.FindStringSubmatchIndex(text)
		if at == nil {
			break
		}
		group := func(i int) string {
			if at[2*i] < 0 {
				return ""
			}
			return text[at[2*i]:at[2*i+1]]
		}
		b.WriteString(escape(text[:at[0]]))
		switch {
		case group(5) != "" && strings.Contains(group(6), "://"):
			b.WriteString(escape(group(5) + " <" + group(6) + ">"))
		case group(5) != "":
			b.WriteString(escape(group(5)))
		case group(4) != "":
			b.WriteString(`\fI` + escape(group(4)) + `\fP`)
		default:
			b.WriteString(`\fB` + escape(strings.ReplaceAll(group(1)+group(2)+group(3), "\n", " ")) + `\fP`)
		}
		text = text[at[1]:]
	}
	if strings.Contains(text, "`") {
		return fmt.Errorf("code is not closed: %q", text)
	}
	line := ""
	for _, word := range strings.Fields(b.String() + escape(text)) {
		if strings.Contains(word, `\-`) || strings.ContainsAny(word, "_/=") {
			word = `\%` + word // a name, which must not be hyphenated
		}
		if line != "" && len(line)+len(word) >= maxLine {
			w.line(line)
			line = ""
		}
		line = strings.TrimPrefix(line+" "+word, " ")
	}
	w.line(line)
	w.headed = false
	return nil
}

// maxLine bounds lines of running text in the source of a page, in bytes.
const maxLine = 80

// line writes a line of text, escaped if it begins like a request of roff.
func (w *writer) line(line string) {
	if strings.HasPrefix(line, ".") || strings.HasPrefix(line, "'") {
		line = `\&` + line
	}
	w.WriteString(line + "\n")
}

// escape escapes text so that every character is shown as it is. A dash is the ASCII
// one of flags, so that it can be copied.
func escape(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\\':
			b.WriteString(`\e`)
		case r == '-':
			b.WriteString(`\-`)
		case r == '`':
			b.WriteString(`\(ga`)
		case r == '\'':
			b.WriteString(`\(aq`)
		case r == '^':
			b.WriteString(`\(ha`)
		case r == '~':
			b.WriteString(`\(ti`)
		case r > '~':
			fmt.Fprintf(&b, `\[u%04X]`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}
