package sandbox

import (
	"context"
	"errors"
)

func (h *Host) startBelow(ctx context.Context, p *Process, s Spec) (*Process, error) {
	return nil, errors.New("x")
}
