package launcher

import "sync"

// Keeper keeps one launcher and starts another one when that has died. Its
// methods may be called concurrently.
type Keeper struct {
	Start func() (*Launcher, error)

	mu       sync.Mutex
	closed   bool
	launcher *Launcher
	epoch    uint64
}

// Get gives the launcher, started if there is none that lives, and a number
// that no earlier call has had. After Close it fails with ErrLost.
func (k *Keeper) Get() (*Launcher, uint64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return nil, 0, ErrLost
	}
	if k.launcher != nil {
		select {
		case <-k.launcher.Done():
			k.launcher = nil
		default:
		}
	}
	if k.launcher == nil {
		l, err := k.Start()
		if err != nil {
			return nil, 0, err
		}
		k.launcher = l
	}
	k.epoch++
	return k.launcher, k.epoch, nil
}

// Closed tells whether Close was called.
func (k *Keeper) Closed() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.closed
}

// Close ends the launcher and everything below it; so does a second call.
func (k *Keeper) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	if k.launcher != nil {
		return k.launcher.Close()
	}
	return nil
}
