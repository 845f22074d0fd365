package spawn

// Nonce is the secret of an identity.
func (id Identity) Nonce() [16]byte { return id.nonce }

// LandlockPolicy is the second wall of a Request.
var LandlockPolicy = landlockPolicy
