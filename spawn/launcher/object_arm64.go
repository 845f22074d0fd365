package launcher

import _ "embed"

//go:embed init/init-arm64
var object string
