package plan

import "encoding/json"

// Section is one list of steps and who runs it, for people to read.
type Section struct {
	Name  string `json:"name"` // setup, prepare, before or after
	Runs  string `json:"runs"` // who executes the steps, when and where, in words
	Steps []Step `json:"steps"`
}

// MarshalJSON gives the step by name, its operands in wire order and as text.
// Binary operands are given by their size.
func (s Step) MarshalJSON() ([]byte, error) {
	operands := s.Fields()
	if operands == nil {
		operands = []Field{}
	}
	return json.Marshal(struct {
		Step     Kind    `json:"step"`
		Operands []Field `json:"operands"`
	}{s.Kind, operands})
}
