package launcher

import _ "embed"

//go:embed init/init-amd64
var object string
