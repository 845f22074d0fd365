package doctor

import (
	"encoding/json"
	"io"
)

// JSON prints a report as one line of JSON, with Schema.
func JSON(w io.Writer, r *Report) error { return json.NewEncoder(w).Encode(r) }
