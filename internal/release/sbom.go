package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// row is a line of docs/licences.md: a module, its version and its licence.
var row = regexp.MustCompile(`(?m)^\| (\S+) \| (\S+) \| ([^|]+) \| `)

// licencesOf reads the licences of modules from docs/licences.md, as expressions of SPDX.
func licencesOf(page string) (map[string]string, error) {
	text, err := os.ReadFile(page)
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, m := range row.FindAllStringSubmatch(string(text), -1) {
		all[m[1]+"@"+m[2]] = strings.NewReplacer(" and ", " AND ", " or ", " OR ").Replace(m[3])
	}
	return all, nil
}

// sbom returns the bill of materials of a program, in JSON of CycloneDX. It says what the program
// says that it was built of. Nothing in it depends on the machine or the time of the build.
func sbom(
	info *buildinfo.BuildInfo, program []byte, version string, licences map[string]string,
	at time.Time,
) ([]byte, error) {
	sum := sha256.Sum256(program)
	setting := map[string]string{}
	for _, s := range info.Settings {
		setting[s.Key] = s.Value
	}
	bom := cdx.NewBOM()
	bom.SerialNumber = serialNumber(sum)
	self := cdx.Component{
		Type: cdx.ComponentTypeApplication, Name: "bpfctl", Version: version,
		BOMRef: info.Path,
		PackageURL: fmt.Sprintf("%s?goarch=%s&goos=%s#%s", purl(info.Main.Path, version),
			setting["GOARCH"], setting["GOOS"], strings.TrimPrefix(info.Path, info.Main.Path+"/")),
		Hashes:     &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: fmt.Sprintf("%x", sum)}},
		Licenses:   &cdx.Licenses{{Expression: "BSD-2-Clause"}},
		Properties: &[]cdx.Property{{Name: "vcs.revision", Value: setting["vcs.revision"]}},
	}
	bom.Metadata = &cdx.Metadata{Timestamp: at.UTC().Format(time.RFC3339), Component: &self}
	parts := []cdx.Component{{
		Type: cdx.ComponentTypeLibrary, Name: "std", Version: info.GoVersion,
		Licenses:   &cdx.Licenses{{Expression: "BSD-3-Clause"}},
		PackageURL: purl("std", info.GoVersion),
	}}
	for _, m := range info.Deps {
		if m.Replace != nil {
			return nil, fmt.Errorf("%s is replaced: a release is made of what its go.mod requires", m.Path)
		}
		licence, ok := licences[m.Path+"@"+m.Version]
		if !ok {
			return nil, fmt.Errorf("%s %s is not in docs/licences.md: run make licences", m.Path, m.Version)
		}
		parts = append(parts, cdx.Component{
			Type: cdx.ComponentTypeLibrary, Name: m.Path, Version: m.Version,
			Licenses:   &cdx.Licenses{{Expression: licence}},
			PackageURL: purl(m.Path, m.Version),
			Properties: &[]cdx.Property{{Name: "go.sum", Value: m.Sum}},
		})
	}
	refs := make([]string, len(parts))
	for i := range parts {
		parts[i].BOMRef = parts[i].PackageURL
		refs[i] = parts[i].BOMRef
	}
	bom.Components = &parts
	bom.Dependencies = &[]cdx.Dependency{{Ref: self.BOMRef, Dependencies: &refs}}
	var b bytes.Buffer
	err := cdx.NewBOMEncoder(&b, cdx.BOMFileFormatJSON).SetPretty(true).
		EncodeVersion(bom, cdx.SpecVersion1_6)
	return b.Bytes(), err
}

// serialNumber returns a UUID of version 8. The same program has the same one.
func serialNumber(sum [sha256.Size]byte) string {
	id := sum[:16]
	id[6], id[8] = id[6]&0x0f|0x80, id[8]&0x3f|0x80
	return fmt.Sprintf("urn:uuid:%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
}

// purl returns the address of a module as other tools spell it.
func purl(module, version string) string {
	return "pkg:golang/" + module + "@" + strings.ReplaceAll(version, "+", "%2B")
}
