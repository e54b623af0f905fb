{{/* Names, labels, images and pieces that several objects share. Names are fixed: a cluster has one Callgate. */}}

{{- define "callgate.labels" -}}
app.kubernetes.io/name: callgate
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: callgate
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- end }}

{{/* What pods are selected by. May never change, so no version: and pods have no more than this, so that they are not replaced for a label. */}}
{{- define "callgate.operator.selector" -}}
app.kubernetes.io/name: callgate
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end }}

{{- define "callgate.dataplane.selector" -}}
app.kubernetes.io/name: callgate
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: dataplane
{{- end }}

{{/* Call with (list . NAME). A name with a digest says all there is to say. */}}
{{- define "callgate.image" -}}
{{- $root := index . 0 -}}
{{- $name := index . 1 -}}
{{- with $root.Values.image.registry }}{{ . }}/{{ end }}{{ $name }}
{{- if not (contains "@" $name) }}:{{ $root.Values.image.tag | default $root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "callgate.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
{{- range . }}
- name: {{ . }}
{{- end }}
{{- end }}
{{- end }}

{{/* No capability, no other user, nothing writable. */}}
{{- define "callgate.restricted" -}}
allowPrivilegeEscalation: false
capabilities: {drop: [ALL]}
readOnlyRootFilesystem: true
{{- end }}

{{/* The security context of pods that need nothing. */}}
{{- define "callgate.nobody" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{/* Before the Job of the predefined objects, and gone with it. */}}
{{- define "callgate.predefined.hook" -}}
helm.sh/hook: post-install,post-upgrade,post-rollback
helm.sh/hook-weight: "-1"
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end }}

{{/* What all containers of the data plane have in common. */}}
{{- define "callgate.dataplane.container" -}}
image: {{ include "callgate.image" (list . .Values.dataplane.image) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
- name: NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: RUST_LOG
  value: {{ .Values.dataplane.logLevel | quote }}
securityContext:
  runAsUser: 0
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  # docs/security.md says what each is for.
  capabilities: {drop: [ALL], add: [NET_ADMIN, NET_RAW{{ if ne .Values.dataplane.fastPath "off" }}, BPF{{ end }}]}
resources:
  {{- toYaml .Values.dataplane.resources | nindent 2 }}
volumeMounts:
- {name: state, mountPath: /var/lib/callgate}
- {name: run, mountPath: /run/callgate}
# Also without the fast path: what an agent before has named there has to be found, to be removed.
- {name: bpf, mountPath: /sys/fs/bpf}
- {name: token, mountPath: /etc/callgate/token, readOnly: true}
- {name: ca, mountPath: /etc/callgate/ca, readOnly: true}
{{- end }}

{{/* Flags that serving and cleaning up have to agree on. */}}
{{- define "callgate.dataplane.args" -}}
- --state-dir=/var/lib/callgate
- --api=/run/callgate/api.sock
- --log-format={{ .Values.dataplane.logFormat }}
{{- range $flag, $value := .Values.dataplane.kernel }}
- --{{ $flag }}={{ if kindIs "float64" $value }}{{ int64 $value }}{{ else }}{{ $value }}{{ end }}
{{- end }}
{{- end }}
