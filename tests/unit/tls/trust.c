/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who is believed: each row is a chain that is bad in one way or, beside it, just good enough, and is judged as client
 * and as server, under trust as it was configured first and once the next root has been added.
 */
#include "pki.h"

#include <errno.h>

#include "tls/trust_chain.h"

enum { NOBODY = 0, CLIENT = 1, SERVER = 2, BOTH = 3 };

struct row {
	const char *name, *recipe;
	int accepted; /* as which side */
	const char *why; /* words of the sentence */
};

#define LONG_SERIAL "7f0102030405060708090a0b0c0d0e0f10111213"
/* ID as a GeneralName, and as the whole extension */
#define ID_URI "86257370696666653a2f2f636c75737465722e6c6f63616c2f6e732f73686f702f73612f776562"
#define ID_SAN "3027" ID_URI
#define A50 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define A250 A50 A50 A50 A50 A50
#define URI(text) "leaf.san=critical,URI:" text

static const struct row id_rows[] = {
	{ "as it should be", "", BOTH, NULL },
	{ "another workload", URI("spiffe://cluster.local/x"), BOTH, NULL },
	{ "no SAN, no subject", "leaf.san=", NOBODY, "no URI" },
	{ "no SAN", "leaf.san=|leaf.subject=web", NOBODY, "no URI" },
	{ "no SAN, id in the CN", "leaf.san=|leaf.subject=" ID, NOBODY, "no URI" },
	{ "empty SAN", "leaf.san=critical,", NOBODY, "no URI" },
	{ "a DNS name only", "leaf.san=critical,DNS:web.shop", NOBODY, "no URI" },
	{ "id as DNS name", "leaf.san=critical,DNS:" ID, NOBODY, "no URI" },
	{ "id as mail address", "leaf.san=critical,EMAIL:" ID, NOBODY, "no URI" },
	{ "id as directory name", "leaf.san=critical,DIR:" ID, NOBODY, "no URI" },
	{ "id as otherName, UTF8String", "leaf.san=critical,UTF8:" ID, NOBODY, "no URI" },
	{ "id as otherName, BMPString with NULs", "leaf.san=critical,BMP:^00s^00p^00i", NOBODY, "no URI" },
	{ "id as otherName, UniversalString", "leaf.san=critical,UNI:^00^00^00s^00^00^00p", NOBODY, "no URI" },
	{ "id and other kinds of names", "leaf.san=critical,DNS:web.shop;URI:" ID ";EMAIL:a@b;UTF8:x;DIR:x", BOTH,
	  NULL },
	{ "id and an otherName with NULs", "leaf.san=critical,BMP:^00s^00^00;URI:" ID, BOTH, NULL },
	{ "two ids, the same", URI(ID) ";URI:" ID, NOBODY, "more than one URI" },
	{ "two ids", URI(ID) ";URI:spiffe://cluster.local/ns/shop/sa/db", NOBODY, "more than one URI" },
	{ "an id and an https URI", URI(ID) ";URI:https://web.shop/", NOBODY, "more than one URI" },
	{ "an https URI and an id", "leaf.san=critical,URI:https://web.shop/;URI:" ID, NOBODY, "more than one URI" },
	{ "three URIs between other names", "leaf.san=critical,URI:a;DNS:b;URI:c;URI:" ID, NOBODY,
	  "more than one URI" },
	{ "SAN twice", "leaf.twice=san", NOBODY, "twice" },
	{ "SAN that is no sequence", "leaf.san=|leaf.subject=a|leaf.ext=2.5.29.17::1603616263", NOBODY,
	  "cannot be parsed" },
	{ "SAN with letters for DER", "leaf.san=|leaf.subject=a|leaf.ext=2.5.29.17:critical:616263", NOBODY,
	  "cannot be parsed" },
	{ "SAN by octets", "leaf.san=|leaf.ext=2.5.29.17:critical:" ID_SAN, BOTH, NULL },
	{ "SAN with a tail", "leaf.san=|leaf.ext=2.5.29.17:critical:" ID_SAN "0500", NOBODY, "not one value" },
	{ "SAN with octets of zero behind it", "leaf.san=|leaf.ext=2.5.29.17:critical:" ID_SAN "0000", NOBODY,
	  "not one value" },
	{ "SAN of indefinite length", "leaf.san=|leaf.ext=2.5.29.17:critical:3080" ID_URI "0000", NOBODY,
	  "not one value" },
	{ "SAN not critical, with subject", "leaf.san=URI:" ID "|leaf.subject=web", BOTH, NULL },
	{ "SAN critical, with subject", "leaf.subject=web", BOTH, NULL },
	{ "SAN not critical, no subject", "leaf.san=URI:" ID, NOBODY, "not critical" },
	{ "scheme in capitals", URI("SPIFFE://cluster.local/ns/shop/sa/web"), NOBODY, "begin with" },
	{ "scheme http", URI("http://cluster.local/ns/shop/sa/web"), NOBODY, "begin with" },
	{ "scheme https", URI("https://cluster.local/ns/shop/sa/web"), NOBODY, "begin with" },
	{ "no scheme", URI("cluster.local/ns/shop/sa/web"), NOBODY, "begin with" },
	{ "one slash", URI("spiffe:/cluster.local/ns/shop/sa/web"), NOBODY, "begin with" },
	{ "an empty URI", URI(""), NOBODY, "empty" },
	{ "a space before", URI(" " ID), NOBODY, "begin with" },
	{ "no trust domain", URI("spiffe:///ns/shop/sa/web"), NOBODY, "trust domain" },
	{ "trust domain in capitals", URI("spiffe://CLUSTER.local/ns/shop/sa/web"), NOBODY, "trust domain" },
	{ "trust domain with port", URI("spiffe://cluster.local:443/ns/shop/sa/web"), NOBODY, "trust domain" },
	{ "trust domain with user", URI("spiffe://me@cluster.local/ns/shop/sa/web"), NOBODY, "trust domain" },
	{ "trust domain with escape", URI("spiffe://cluster%2elocal/ns/shop/sa/web"), NOBODY, "trust domain" },
	{ "trust domain of 256 bytes", URI("spiffe://" A250 "aaaaaa/x"), NOBODY, "trust domain" },
	{ "trust domain of 255 bytes, not ours", URI("spiffe://" A250 "aaaaa/x"), NOBODY, "is not known" },
	{ "trust domain with underscore, not ours", URI("spiffe://cluster_local/x"), NOBODY, "is not known" },
	{ "trust domain with final dot", URI("spiffe://cluster.local./ns/shop/sa/web"), NOBODY, "is not known" },
	{ "trust domain that begins with ours", URI("spiffe://cluster.localevil/ns/shop/sa/web"), NOBODY,
	  "is not known" },
	{ "trust domain below which ours looks", URI("spiffe://cluster.local.evil/ns/shop/sa/web"), NOBODY,
	  "is not known" },
	{ "trust domain that ends in ours", URI("spiffe://evilcluster.local/ns/shop/sa/web"), NOBODY, "is not known" },
	{ "trust domain that ours begins with", URI("spiffe://cluster.loca/ns/shop/sa/web"), NOBODY, "is not known" },
	{ "no path", URI("spiffe://cluster.local"), NOBODY, "no path" },
	{ "path /", URI("spiffe://cluster.local/"), NOBODY, "ends in a slash" },
	{ "slash at the end", URI(ID "/"), NOBODY, "ends in a slash" },
	{ "two slashes", URI("spiffe://cluster.local/ns//shop/sa/web"), NOBODY, "empty segment" },
	{ "path //", URI("spiffe://cluster.local//"), NOBODY, "empty segment" },
	{ "segment .", URI("spiffe://cluster.local/ns/./shop/sa/web"), NOBODY, ". or .." },
	{ "segment ..", URI("spiffe://cluster.local/ns/db/../shop/sa/web"), NOBODY, ". or .." },
	{ "escape in the path", URI("spiffe://cluster.local/ns/shop/sa/w%65b"), NOBODY, "character" },
	{ "query", URI(ID "?a=b"), NOBODY, "character" },
	{ "empty query", URI(ID "?"), NOBODY, "character" },
	{ "fragment", URI(ID "#a"), NOBODY, "character" },
	{ "NUL inside", URI("spiffe://cluster.local/ns/shop/sa/web^00evil"), NOBODY, "character" },
	{ "NUL at the end", URI(ID "^00"), NOBODY, "character" },
	{ "NUL in the trust domain", URI("spiffe://cluster.local^00.evil/ns/shop/sa/web"), NOBODY, "trust domain" },
	{ "newline at the end", URI(ID "^0a"), NOBODY, "character" },
	{ "bytes of UTF-8", URI("spiffe://cluster.local/ns/shop/sa/w^c3^a9b"), NOBODY, "character" },
	{ "bytes above 127", URI("spiffe://cluster.local/ns/shop/sa/web^ff"), NOBODY, "character" },
	{ "2048 bytes",
	  URI("spiffe://cluster.local/" A250 A250 A250 A250 A250 A250 A250 A250 "aaaaaaaaaaaaaaaaaaaaaaaaa"), BOTH,
	  NULL },
	{ "2049 bytes",
	  URI("spiffe://cluster.local/" A250 A250 A250 A250 A250 A250 A250 A250 "aaaaaaaaaaaaaaaaaaaaaaaaaa"), NOBODY,
	  "2048" },
};

static const struct row leaf_rows[] = {
	{ "of the root itself", "leaf.by=root|send=", BOTH, NULL },
	{ "a CA's", "leaf.bc=critical,CA:TRUE", NOBODY, "authenticate nobody" },
	{ "a CA's, by key usage too", "leaf.bc=critical,CA:TRUE|leaf.ku=critical,digitalSignature,keyCertSign", NOBODY,
	  "CA" },
	{ "no basicConstraints", "leaf.bc=", BOTH, NULL },
	{ "basicConstraints not critical", "leaf.bc=CA:FALSE", BOTH, NULL },
	{ "basicConstraints with a path length", "leaf.bc=critical,CA:FALSE,pathlen:0", NOBODY, "path length" },
	{ "keyCertSign", "leaf.ku=critical,digitalSignature,keyCertSign", NOBODY, "keyCertSign or cRLSign" },
	{ "cRLSign", "leaf.ku=critical,digitalSignature,cRLSign", NOBODY, "keyCertSign or cRLSign" },
	{ "no keyUsage", "leaf.ku=", NOBODY, "no keyUsage" },
	{ "keyUsage not critical", "leaf.ku=digitalSignature", NOBODY, "keyUsage is not critical" },
	{ "no digitalSignature", "leaf.ku=critical,keyEncipherment", NOBODY, "digitalSignature" },
	{ "keyUsage of nothing", "leaf.ku=|leaf.ext=2.5.29.15:critical:03020700", NOBODY, "contradict" },
	{ "keyUsage with a tail", "leaf.ku=|leaf.ext=2.5.29.15:critical:030207800500", NOBODY, "not one value" },
	{ "keyUsage as Istio's", "leaf.ku=critical,digitalSignature,keyEncipherment", BOTH, NULL },
	{ "keyUsage twice", "leaf.twice=ku", NOBODY, "twice" },
	{ "no extendedKeyUsage", "leaf.eku=", BOTH, NULL },
	{ "extendedKeyUsage critical", "leaf.eku=critical,serverAuth,clientAuth", BOTH, NULL },
	{ "only clientAuth", "leaf.eku=clientAuth", CLIENT, "no serverAuth" },
	{ "only serverAuth", "leaf.eku=serverAuth", SERVER, "no clientAuth" },
	{ "only emailProtection", "leaf.eku=emailProtection", NOBODY, "extendedKeyUsage" },
	{ "only codeSigning and OCSP", "leaf.eku=codeSigning,OCSPSigning", NOBODY, "extendedKeyUsage" },
	{ "only any", "leaf.eku=anyExtendedKeyUsage", NOBODY, "anyExtendedKeyUsage" },
	{ "any beside both", "leaf.eku=serverAuth,clientAuth,anyExtendedKeyUsage", NOBODY, "anyExtendedKeyUsage" },
	{ "empty extendedKeyUsage", "leaf.eku=|leaf.ext=2.5.29.37::3000", NOBODY, "extendedKeyUsage" },
	{ "extendedKeyUsage that is none", "leaf.eku=|leaf.ext=2.5.29.37::0500", NOBODY, "cannot be parsed" },
	{ "extendedKeyUsage that is no DER", "leaf.eku=|leaf.ext=2.5.29.37::ffff", NOBODY, "not one value" },
	{ "name constraints", "leaf.nc=critical,permitted;URI:cluster.local", NOBODY, "name constraints" },
	{ "expired a second ago", "leaf.to=-1", NOBODY, "expired" },
	{ "expired long ago", "leaf.from=-1000|leaf.to=-500", NOBODY, "expired" },
	{ "notAfter this second", "leaf.to=0", BOTH, NULL },
	{ "notBefore this second", "leaf.from=0", BOTH, NULL },
	{ "not valid for a second", "leaf.from=1", NOBODY, "not yet valid" },
	{ "not valid for long", "leaf.from=86400|leaf.to=90000", NOBODY, "not yet valid" },
	{ "validity the wrong way round", "leaf.from=10|leaf.to=-10", NOBODY, "valid" },
	{ "validity without seconds", "leaf.utc=2801150000Z", NOBODY, "4.1.2.5" },
	{ "validity in another zone", "leaf.utc=280115000000+0100", NOBODY, "4.1.2.5" },
	{ "GeneralizedTime before 2050", "leaf.general=20280115000000Z", NOBODY, "4.1.2.5" },
	{ "GeneralizedTime with fractions", "leaf.general=20510115000000.5Z", NOBODY, "4.1.2.5" },
	{ "GeneralizedTime after 2050", "leaf.general=20510115000000Z", BOTH, NULL },
	{ "version 1", "leaf.version=1", NOBODY, "version 3" },
	{ "version 2", "leaf.version=2", NOBODY, "version 3" },
	{ "version 4", "leaf.version=4", NOBODY, "version 3" },
	{ "serial 0", "leaf.serial=00", NOBODY, "zero" },
	{ "serial -1", "leaf.serial=-01", NOBODY, "negative" },
	{ "serial of 20 octets", "leaf.serial=" LONG_SERIAL, BOTH, NULL },
	{ "serial of 21 octets", "leaf.serial=" LONG_SERIAL "14", NOBODY, "20 octets" },
	{ "serial of 20 octets and a sign", "leaf.serial=8f0102030405060708090a0b0c0d0e0f10111213", NOBODY,
	  "20 octets" },
	{ "unknown extension", "leaf.ext=1.2.3.4::0500", BOTH, NULL },
	{ "unknown critical extension", "leaf.ext=1.2.3.4:critical:0500", NOBODY, "critical extension" },
	{ "unknown extension twice", "leaf.ext=1.2.3.4::0500|leaf.ext2=1.2.3.4::0500", NOBODY, "twice" },
	{ "64 extensions", "leaf.fill=64", BOTH, NULL },
	{ "65 extensions", "leaf.fill=65", NOBODY, "64 extensions" },
	{ "known extension that may not be critical", "leaf.ext=1.3.6.1.5.5.7.1.1:critical:3000", NOBODY,
	  "critical extension" },
	{ "critical policy mappings", "leaf.ext=2.5.29.33:critical:3000", NOBODY, "critical extension" },
	{ "policies", "leaf.ext=2.5.29.32::3006300406022a03", BOTH, NULL },
	{ "critical policies", "leaf.ext=2.5.29.32:critical:3006300406022a03", BOTH, NULL },
	{ "no authorityKeyIdentifier", "leaf.aki=no", BOTH, NULL },
	{ "critical authorityKeyIdentifier", "leaf.aki=critical", NOBODY, "critical extension" },
	{ "authorityKeyIdentifier of another key", "leaf.aki=other", NOBODY, "no path" },
	{ "authorityKeyIdentifier without key", "leaf.aki=issuer", NOBODY, "no key identifier" },
	{ "empty issuer", "ica.subject=", NOBODY, "issuer is empty" },
	{ "P-384", "leaf.key=P-384", BOTH, NULL },
	{ "Ed25519", "leaf.key=ed25519", BOTH, NULL },
	{ "RSA 2048", "leaf.key=rsa2048", BOTH, NULL },
	{ "RSA 1024", "leaf.key=rsa1024", NOBODY, "RSA key" },
	{ "RSA 2047", "leaf.key=rsa2047", NOBODY, "RSA key" },
	{ "RSA 2052", "leaf.key=rsa2052", NOBODY, "RSA key" },
	{ "a key for RSA-PSS alone", "leaf.key=rsapss", NOBODY, "its key is none" },
	{ "P-224", "leaf.key=P-224", NOBODY, "neither P-256 nor P-384" },
	{ "P-192", "leaf.key=P-192", NOBODY, "neither P-256 nor P-384" },
	{ "P-521", "leaf.key=P-521", NOBODY, "neither P-256 nor P-384" },
	{ "secp256k1", "leaf.key=secp256k1", NOBODY, "neither P-256 nor P-384" },
	{ "P-256 by parameters", "leaf.key=explicit", NOBODY, "by parameters" },
	{ "signed with SHA-1", "leaf.sign=sha1", NOBODY, "signature is none" },
	{ "signed with SHA-224", "leaf.sign=sha224", NOBODY, "signature is none" },
	{ "signed with SHA3-256", "leaf.sign=sha3-256", NOBODY, "signature is none" },
	{ "signed with SHA-384", "leaf.sign=sha384", BOTH, NULL },
	{ "signed with MD5", "ica.key=rsa2048|leaf.sign=md5", NOBODY, "signature is none" },
	{ "signed with RSA and SHA-1", "ica.key=rsa2048|leaf.sign=sha1", NOBODY, "signature is none" },
	{ "signed with RSA and SHA-256", "ica.key=rsa2048", BOTH, NULL },
	{ "signed with RSA-PSS", "ica.key=rsa2048|leaf.sign=pss", BOTH, NULL },
	{ "another algorithm outside than inside", "leaf.outer=03", NOBODY, "signature" },
	{ "signed by another key", "leaf.signkey=other", NOBODY, "signature" },
	{ "signed by its own key in a CA's name", "leaf.signkey=leaf", NOBODY, "signature" },
	{ "signed by itself", "leaf.by=leaf|leaf.subject=web", NOBODY, "no path" },
};

static const struct row chain_rows[] = {
	{ "intermediate left out", "send=", NOBODY, "no path" },
	{ "root sent too", "send=ica,root", BOTH, NULL },
	{ "leaf sent twice", "send=leaf,ica", BOTH, NULL },
	{ "an unrelated CA sent too", "send=x,ica,y", BOTH, NULL },
	{ "the wrong way round", "ica.by=x|x.by=root|send=x,ica", BOTH, NULL },
	{ "three intermediates", "ica.by=x|x.by=y|send=ica,x,y", BOTH, NULL },
	{ "the next root under its old one's name and signature", "leaf.by=nica|nica.by=x|x.subject=root|send=nica,x",
	  BOTH, NULL },
	{ "an unknown root", "ica.by=x|x.by=x|send=ica,x", NOBODY, "no path" },
	{ "an unknown root of the same name", "ica.by=x|x.by=x|x.subject=root|send=ica,x", NOBODY, "no path" },
	{ "root's name, another key", "ica.signkey=other", NOBODY, "signature" },
	{ "cycle of two CAs", "ica.by=x|x.by=ica|send=ica,x", NOBODY, "no path" },
	{ "cycle of three CAs", "ica.by=x|x.by=y|y.by=x|send=ica,x,y", NOBODY, "no path" },
	{ "CA that signed itself, unknown", "leaf.by=x|x.by=x|send=x", NOBODY, "no path" },
	{ "no CA by basicConstraints", "ica.bc=critical,CA:FALSE", NOBODY, "no CA" },
	{ "no basicConstraints on a CA", "ica.bc=", NOBODY, "no CA" },
	{ "basicConstraints not critical on a CA", "ica.bc=CA:TRUE", NOBODY, "not critical" },
	{ "a leaf that signs", "x.bc=critical,CA:FALSE|x.ku=critical,digitalSignature|leaf.by=x|send=x", NOBODY,
	  "no CA" },
	{ "CA without keyUsage", "ica.ku=", NOBODY, "no keyUsage" },
	{ "CA without keyCertSign", "ica.ku=critical,digitalSignature,cRLSign", NOBODY, "keyCertSign" },
	{ "CA without cRLSign", "ica.ku=critical,keyCertSign", BOTH, NULL },
	{ "CA's usage only clientAuth", "ica.eku=clientAuth", CLIENT, "no serverAuth" },
	{ "CA's usage only serverAuth", "ica.eku=serverAuth", SERVER, "no clientAuth" },
	{ "CA's usage any", "ica.eku=anyExtendedKeyUsage", BOTH, NULL },
	{ "CA's usage codeSigning", "ica.eku=codeSigning", NOBODY, "extendedKeyUsage" },
	{ "CA expired", "ica.to=-1", NOBODY, "expired" },
	{ "CA not yet valid", "ica.from=1", NOBODY, "not yet valid" },
	{ "CA of version 1", "ica.version=1", NOBODY, "version 3" },
	{ "CA with serial 0", "ica.serial=00", NOBODY, "zero" },
	{ "CA with an unknown critical extension", "ica.ext=1.2.3.4:critical:0500", NOBODY, "critical extension" },
	{ "CA with policy constraints", "ica.ext=2.5.29.36:critical:3003800100", NOBODY, "critical extension" },
	{ "CA with policy constraints, not critical", "ica.ext=2.5.29.36::3003800100", NOBODY, "policy constraints" },
	{ "CA with inhibitAnyPolicy, not critical", "ica.ext=2.5.29.54::020100", NOBODY, "policy constraints" },
	{ "CA with an extension twice", "ica.twice=ku", NOBODY, "twice" },
	{ "CA without subjectKeyIdentifier", "ica.ski=no", NOBODY, "subjectKeyIdentifier" },
	{ "CA with critical subjectKeyIdentifier", "ica.ski=critical", NOBODY, "critical extension" },
	{ "CA with another's subjectKeyIdentifier", "ica.ski=other", NOBODY, "no path" },
	{ "CA without authorityKeyIdentifier", "ica.aki=no", BOTH, NULL },
	{ "CA of RSA 1024", "ica.key=rsa1024", NOBODY, "RSA key" },
	{ "CA of P-224", "ica.key=P-224", NOBODY, "P-256" },
	{ "CA of P-256 by parameters", "ica.key=explicit", NOBODY, "by parameters" },
	{ "CA of P-384", "ica.key=P-384", BOTH, NULL },
	{ "CA of Ed25519", "ica.key=ed25519", BOTH, NULL },
	{ "CA signed with SHA-1", "ica.sign=sha1", NOBODY, "signature is none" },
	{ "CA signed with MD5", "root.key=rsa2048|ica.sign=md5", NOBODY, "signature is none" },
	{ "path length 0, a leaf below", "ica.bc=critical,CA:TRUE,pathlen:0", BOTH, NULL },
	{ "path length 0, a CA below", "ica.by=x|x.bc=critical,CA:TRUE,pathlen:0|send=ica,x", NOBODY, "path length" },
	{ "path length 1, two CAs below", "ica.by=x|x.by=y|y.bc=critical,CA:TRUE,pathlen:1|send=ica,x,y", NOBODY,
	  "path length" },
	{ "path length 1, one CA below", "ica.by=x|x.bc=critical,CA:TRUE,pathlen:1|send=ica,x", BOTH, NULL },
	{ "the root's path length 0", "root.bc=critical,CA:TRUE,pathlen:0", NOBODY, "path length" },
	{ "name constraint on this trust domain", "ica.nc=critical,permitted;URI:cluster.local", BOTH, NULL },
	{ "name constraint on another", "ica.nc=critical,permitted;URI:other.example", NOBODY, "permitted subtree" },
	{ "name constraint on what is below", "ica.nc=critical,permitted;URI:.cluster.local", NOBODY,
	  "permitted subtree" },
	{ "name constraint that excludes this one", "ica.nc=critical,excluded;URI:cluster.local", NOBODY,
	  "excluded subtree" },
	{ "name constraint that excludes another", "ica.nc=critical,excluded;URI:other.example", BOTH, NULL },
	{ "the root's name constraint", "root.nc=critical,permitted;URI:other.example", NOBODY, "permitted subtree" },
	{ "name constraint that is not critical", "ica.nc=permitted;URI:cluster.local", NOBODY, "not critical" },
	{ "name constraint of nothing", "ica.ext=2.5.29.30:critical:3000", NOBODY, "name constraints are empty" },
	{ "name constraint of no DER", "ica.ext=2.5.29.30:critical:0500", NOBODY, "cannot be parsed" },
	{ "name constraint on other kinds of names", "ica.nc=critical,permitted;DNS:example.com", BOTH, NULL },
	{ "CA with its trust domain's id", "ica.san=URI:spiffe://cluster.local", BOTH, NULL },
	{ "CA with another trust domain's id", "ica.san=URI:spiffe://other.example", NOBODY, "by its own id" },
	{ "CA with an id spelled otherwise", "ica.san=URI:SPIFFE://cluster.local", NOBODY, "by its own id" },
	{ "CA with a workload's id", "ica.san=URI:" ID, NOBODY, "by its own id" },
	{ "CA with a path /", "ica.san=URI:spiffe://cluster.local/", NOBODY, "by its own id" },
	{ "CA with other names", "ica.san=DNS:istiod.istio-system.svc;URI:https://ca.example", BOTH, NULL },
};

#define B_LEAF "leaf.by=bica|send=bica"

static const struct row domain_rows[] = {
	{ "the other trust domain's own", B_LEAF "|" URI("spiffe://other.example/ns/shop/sa/web"), BOTH, NULL },
	{ "our id, by the other's CA", B_LEAF, NOBODY, "no path" },
	{ "our id, by the other's root", "leaf.by=broot|send=", NOBODY, "no path" },
	{ "our id, by the other's root, which is sent", "leaf.by=broot|send=broot", NOBODY, "no path" },
	{ "the other's id, by our CA", URI("spiffe://other.example/ns/shop/sa/web"), NOBODY, "no path" },
	{ "the other's id, by our root", "leaf.by=root|send=|" URI("spiffe://other.example/ns/shop/sa/web"), NOBODY,
	  "no path" },
	{ "our id, by the other's CA, which our root vouches for, with its id",
	  "leaf.by=bica|bica.by=root|bica.san=URI:spiffe://other.example|send=bica", NOBODY, "by its own id" },
	{ "our id, by a CA of nobody else's, which our root vouches for",
	  "leaf.by=broot|broot.by=root|broot.aki=yes|broots=z|z.by=z|send=broot", BOTH, NULL },
	{ "the other's id, through our root's vouching",
	  "leaf.by=broot|broot.by=root|send=broot|broots=z|z.by=z|" URI("spiffe://other.example/ns/shop/sa/web"),
	  NOBODY, "no path" },
	{ "our id, by the other's CA, which our root vouches for without a word", "leaf.by=bica|bica.by=root|send=bica",
	  BOTH, NULL },
	{ "our id, by the other's CA, which our root vouches for by name constraint",
	  "leaf.by=bica|bica.by=root|bica.nc=critical,permitted;URI:other.example|send=bica", NOBODY,
	  "permitted subtree" },
	{ "id of a trust domain without roots", URI("spiffe://third.example/ns/shop/sa/web"), NOBODY, "is not known" },
	{ "an alias with its own root", B_LEAF "|" URI("spiffe://other.example/ns/shop/sa/web") "|broots=z|z.by=z",
	  NOBODY, "no path" },
};

static const struct row crl_rows[] = {
	{ "a list that is empty", "crls=crl", BOTH, NULL },
	{ "leaf revoked", "crls=crl|crl.revoke=leaf", NOBODY, "is revoked" },
	{ "another revoked", "crls=crl|crl.revoke=nica,x", BOTH, NULL },
	{ "leaf among others revoked", "crls=crl|crl.revoke=x,leaf,nica", NOBODY, "is revoked" },
	{ "intermediate revoked", "crls=crl|crl.by=root|crl.revoke=ica", NOBODY, "is revoked" },
	{ "intermediate's number revoked by another", "crls=crl|crl.by=ica|crl.revoke=ica", BOTH, NULL },
	{ "leaf's number revoked by the root", "crls=crl|crl.by=root|crl.revoke=leaf", BOTH, NULL },
	{ "one of three intermediates revoked", "ica.by=x|x.by=y|send=ica,x,y|crls=crl|crl.by=y|crl.revoke=x", NOBODY,
	  "is revoked" },
	{ "stale list", "crls=crl|crl.to=-1", NOBODY, "does not hold at this time" },
	{ "stale list that revokes", "crls=crl|crl.to=-1|crl.revoke=leaf", NOBODY, "is revoked" },
	{ "list from the future", "crls=crl|crl.from=1", NOBODY, "does not hold at this time" },
	{ "list of this very second", "crls=crl|crl.from=0|crl.to=0", BOTH, NULL },
	{ "stale list and a good one", "crls=crl,crl2|crl.to=-1", BOTH, NULL },
	{ "good list and an older one that revokes", "crls=crl,crl2|crl2.revoke=leaf|crl2.to=-1", NOBODY,
	  "is revoked" },
	{ "the intermediate's list stale, the root's good", "crls=crl,crl2|crl2.by=root|crl.to=-1", NOBODY,
	  "does not hold" },
	{ "the root's list stale, the intermediate's good", "crls=crl,crl2|crl2.by=root|crl2.to=-1", NOBODY,
	  "does not hold" },
	{ "both good", "crls=crl,crl2|crl2.by=root", BOTH, NULL },
	{ "list of another issuer", "crls=crl|crl.by=x|crl.revoke=leaf", BOTH, NULL },
	{ "list of another issuer beside one that revokes", "crls=crl,crl2|crl2.by=x|crl.revoke=leaf", NOBODY,
	  "is revoked" },
	{ "list of another issuer beside a stale one", "crls=crl,crl2|crl2.by=x|crl.to=-1", NOBODY, "does not hold" },
	{ "list in the issuer's name by another key", "crls=crl|crl.signkey=other", NOBODY, "not signed by that key" },
	{ "list in the issuer's name by another key, that revokes", "crls=crl|crl.signkey=other|crl.revoke=leaf",
	  NOBODY, "not signed by that key" },
	{ "the same beside a good one", "crls=crl,crl2|crl.signkey=other|crl.revoke=leaf", BOTH, NULL },
	{ "the same beside one that revokes", "crls=crl,crl2|crl.signkey=other|crl2.revoke=leaf", NOBODY,
	  "is revoked" },
	{ "list of the issuer's former key", "crls=crl|crl.signkey=other|crl.aki=other|crl.revoke=leaf", BOTH, NULL },
	{ "list that does not say by which key", "crls=crl|crl.aki=no", BOTH, NULL },
	{ "list that does not say by which key, by another", "crls=crl|crl.aki=no|crl.signkey=other", NOBODY,
	  "not signed" },
	{ "issuer without cRLSign", "crls=crl|ica.ku=critical,keyCertSign", NOBODY, "not signed" },
	{ "list of the other trust domain", "crls=crl|crl.domain=other.example|crl.revoke=leaf", BOTH, NULL },
	{ "list of version 1", "crls=crl|crl.version=1", NOBODY, "version 2" },
	{ "list without end", "crls=crl|crl.to=", NOBODY, "until when" },
	{ "list without number", "crls=crl|crl.number=", NOBODY, "CRL number" },
	{ "list with critical number", "crls=crl|crl.number=critical", NOBODY, "critical" },
	{ "list by a key that cannot be read", "crls=crl|crl.aki=broken", NOBODY, "cannot be parsed" },
	{ "list for a part", "crls=crl|crl.idp=yes", NOBODY, "whole lists" },
	{ "list of changes", "crls=crl|crl.delta=yes", NOBODY, "whole lists" },
	{ "list with a critical extension of an entry", "crls=crl|crl.revoke=x|crl.entry=critical", NOBODY, "entry" },
	{ "list signed with SHA-1", "crls=crl|crl.sign=sha1", NOBODY, "signature" },
};

static const struct row root_rows[] = {
	{ "root without keyUsage", "root.ku=", BOTH, NULL },
	{ "root without keyCertSign", "root.ku=critical,cRLSign", NOBODY, "keyCertSign" },
	{ "root without basicConstraints", "root.bc=", NOBODY, "no CA" },
	{ "root, basicConstraints not critical", "root.bc=CA:TRUE", NOBODY, "not critical" },
	{ "root without subjectKeyIdentifier", "root.ski=no", NOBODY, "subjectKeyIdentifier" },
	{ "root with its authorityKeyIdentifier", "root.aki=yes", BOTH, NULL },
	{ "root with another authorityKeyIdentifier", "root.aki=other", NOBODY, "authorityKeyIdentifier" },
	{ "root of version 1", "root.version=1", NOBODY, "version 3" },
	{ "root with an unknown critical extension", "root.ext=1.2.3.4:critical:0500", NOBODY, "critical extension" },
	{ "root of RSA 1024", "root.key=rsa1024", NOBODY, "RSA key" },
	{ "root of RSA 2048", "root.key=rsa2048", BOTH, NULL },
	{ "root signed with SHA-1", "root.sign=sha1", NOBODY, "signature is none" },
	{ "root that is not signed by itself", "root.by=x", NOBODY, "by itself" },
	{ "root with a broken signature", "root.signkey=other", NOBODY, "by itself" },
	{ "a leaf as root", "roots=leaf", NOBODY, "CA" },
	{ "an intermediate as root", "roots=ica|send=", NOBODY, "not its own" },
	{ "root expired", "root.to=-1", NOBODY, "expired" },
	{ "root not yet valid", "root.from=1", NOBODY, "not yet valid" },
	{ "root with an empty subject", "root.subject=", NOBODY, "empty" },
};

static void free_chain(X509 *leaf, STACK_OF(X509) *others)
{
	sk_X509_pop_free(others, X509_free);
	X509_free(leaf);
}

static STACK_OF(X509) *make_others(const struct pki *pki, X509 *leaf)
{
	STACK_OF(X509) *others = sk_X509_new_null();
	char *list = strdup(pki_get(pki, "", "send", "ica")), *rest = list;

	while (rest && *rest) {
		const char *who = strsep(&rest, ",");

		if (is(who, "leaf")) {
			X509_up_ref(leaf);
			sk_X509_push(others, leaf);
		} else {
			sk_X509_push(others, pki_cert(pki, who));
		}
	}
	free(list);
	return others;
}

static int add_roots(struct weft_trust *trust, const struct pki *pki, const char *domain, const char *who,
		     struct weft_err *err)
{
	char *list = strdup(who), *rest = list;
	int r = 0;

	while (r == 0 && rest && *rest) {
		unsigned char *der;
		int size = pki_der(pki, strsep(&rest, ","), &der);

		r = weft_trust_add_root(trust, domain, der, (size_t)size, err);
		OPENSSL_free(der);
	}
	free(list);
	return r;
}

/* NULL: it was refused, which puts nothing in force. */
static struct weft_trust *make_trust(const struct pki *pki, const char *roots, struct weft_err *err)
{
	struct weft_trust *trust = weft_trust_new();
	char *list = strdup(pki_get(pki, "", "crls", "")), *rest = list;
	int r = add_roots(trust, pki, "cluster.local", roots, err);

	if (r == 0)
		r = add_roots(trust, pki, "other.example", pki_get(pki, "", "broots", "broot"), err);
	while (r == 0 && rest && *rest) {
		const char *crl = strsep(&rest, ",");
		unsigned char *der;
		int size = pki_crl(pki, crl, &der);

		r = weft_trust_add_crl(trust, pki_get(pki, crl, "domain", "cluster.local"), der, (size_t)size, err);
		OPENSSL_free(der);
	}
	free(list);
	if (r < 0) {
		assert_int_equal(r, -EINVAL);
		assert_true(*err->text);
		return weft_trust_unref(trust);
	}
	return trust;
}

/* The id that a good leaf has, with nothing escaped in it. */
static const char *wanted_id(const struct pki *pki)
{
	const char *uri = strstr(pki_get(pki, "leaf", "san", "URI:" ID), "URI:");
	static char id[4096];

	if (!uri)
		return ID;
	snprintf(id, sizeof(id), "%.*s", (int)strcspn(uri + 4, ";"), uri + 4);
	return id;
}

static void judge(const struct row *row, const struct pki *pki, const struct weft_trust *trust, const char *when,
		  X509 *leaf, STACK_OF(X509) *others)
{
	for (int side = WEFT_TRUST_CLIENT; side <= WEFT_TRUST_SERVER; side++) {
		bool good = row->accepted & (side == WEFT_TRUST_CLIENT ? CLIENT : SERVER);
		struct weft_err err = { 0 };
		char *id = NULL;
		int r = weft_trust_verify(trust, leaf, others, (enum weft_trust_side)side, NOW, &id, &err);

		if ((r == 0) != good)
			fail_msg("%s, %s, as %s: %s", row->name, when, side == WEFT_TRUST_CLIENT ? "client" : "server",
				 r == 0 ? "accepted" : err.text);
		if (good) {
			assert_string_equal(id, wanted_id(pki));
			free(id);
			continue;
		}
		assert_int_equal(r, -EACCES);
		assert_null(id);
		if (!strstr(err.text, row->why))
			fail_msg("%s, %s: `%s` is not in `%s`", row->name, when, row->why, err.text);
		if (ERR_peek_error())
			fail_msg("%s: OpenSSL's error is left behind for whoever asks next", row->name);
	}
}

static void run(const struct row *row)
{
	struct weft_trust *first, *rotated;
	struct weft_err err = { 0 };
	char both[64];
	struct pki pki;
	X509 *leaf;
	STACK_OF(X509) *others;

	pki_read(&pki, row->recipe);
	leaf = pki_cert(&pki, "leaf");
	ERR_clear_error();
	if (!leaf) {
		print_message("%s: cannot be read\n", row->name);
		assert_int_equal(row->accepted, NOBODY);
		pki_done(&pki);
		return;
	}
	others = make_others(&pki, leaf);
	first = make_trust(&pki, pki_get(&pki, "", "roots", "root"), &err);
	if (!first) {
		if (row->accepted || !strstr(err.text, row->why))
			fail_msg("%s: `%s` is not why trust is refused: %s", row->name, row->why ? row->why : "",
				 err.text);
	} else {
		snprintf(both, sizeof(both), "nroot,%s", pki_get(&pki, "", "roots", "root"));
		rotated = make_trust(&pki, both, &err);
		assert_non_null(rotated);
		judge(row, &pki, first, "fresh", leaf, others);
		judge(row, &pki, rotated, "after the next root came", leaf, others);
		/* What was found out before, a list's signature, changes nothing. */
		judge(row, &pki, first, "again", leaf, others);
		weft_trust_unref(rotated);
	}
	weft_trust_unref(first);
	free_chain(leaf, others);
	pki_done(&pki);
}

static size_t negatives, positives;

static void run_all(const struct row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		run(&rows[i]);
		*(rows[i].accepted == BOTH ? &positives : &negatives) += 1;
	}
}
#define RUN_ALL(rows) run_all((rows), sizeof(rows) / sizeof((rows)[0]))

static void test_ids(void **state)
{
	(void)state;
	RUN_ALL(id_rows);
}

static void test_leaves(void **state)
{
	(void)state;
	RUN_ALL(leaf_rows);
}

static void test_chains(void **state)
{
	(void)state;
	RUN_ALL(chain_rows);
}

static void test_domains(void **state)
{
	(void)state;
	RUN_ALL(domain_rows);
}

static void test_revocation(void **state)
{
	(void)state;
	RUN_ALL(crl_rows);
}

static void test_roots(void **state)
{
	(void)state;
	RUN_ALL(root_rows);
}

static int verify(const struct weft_trust *trust, X509 *leaf, STACK_OF(X509) *others, time_t now, struct weft_err *err)
{
	char *id = NULL;
	int r = weft_trust_verify(trust, leaf, others, WEFT_TRUST_CLIENT, now, &id, err);

	free(id);
	return r;
}

/* Before, while and after both roots are in force: each generation is believed exactly as long as its root is. */
static void test_rotation(void **state)
{
	static const struct {
		const char *roots;
		bool old, new;
	} steps[] = { { "root", true, false },
		      { "root,nroot", true, true },
		      { "nroot,root", true, true },
		      { "nroot", false, true } };
	struct pki old, new;

	(void)state;
	pki_read(&old, "");
	/* The next root has the name of the first, as one that renews itself has. */
	pki_read(&new, "leaf.by=nica|send=nica|nroot.subject=root");
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		struct weft_err err = { 0 };
		struct weft_trust *trust = make_trust(&new, steps[i].roots, &err);
		X509 *old_leaf = pki_cert(&old, "leaf"), *new_leaf = pki_cert(&new, "leaf");
		STACK_OF(X509) *old_others = make_others(&old, old_leaf), *new_others = make_others(&new, new_leaf);

		assert_non_null(trust);
		assert_int_equal(verify(trust, old_leaf, old_others, NOW, &err), steps[i].old ? 0 : -EACCES);
		assert_int_equal(verify(trust, new_leaf, new_others, NOW, &err), steps[i].new ? 0 : -EACCES);
		free_chain(old_leaf, old_others);
		free_chain(new_leaf, new_others);
		weft_trust_unref(trust);
	}
	pki_done(&old);
	pki_done(&new);
}

/*
 * An intermediate that the old root and the new one both vouch for is sent with either certificate first, while only
 * one of the roots is believed: OpenSSL alone takes the first and fails.
 */
static void test_cross_signed(void **state)
{
	struct pki by_old, by_new;

	(void)state;
	pki_read(&by_old, "");
	pki_read(&by_new, "ica.by=nroot|ica.serial=77");
	for (int order = 0; order < 2; order++)
		for (int new = 0; new < 2; new ++) {
			struct weft_err err = { 0 };
			struct weft_trust *trust = make_trust(&by_old, new ? "nroot" : "root", &err);
			X509 *leaf = pki_cert(&by_old, "leaf");
			STACK_OF(X509) *others = sk_X509_new_null();

			sk_X509_push(others, pki_cert(order ? &by_new : &by_old, "ica"));
			sk_X509_push(others, pki_cert(order ? &by_old : &by_new, "ica"));
			if (verify(trust, leaf, others, NOW, &err) != 0)
				fail_msg("order %d, new %d: %s", order, new, err.text);
			free_chain(leaf, others);
			weft_trust_unref(trust);
		}
	pki_done(&by_old);
	pki_done(&by_new);
}

/* Another trust domain's root key, for which ours vouches: under no name does it sign for ours (spiffe/spiffe#26). */
static void test_foreign_root_key(void **state)
{
	struct pki cross, own;
	struct weft_err err = { 0 };
	struct weft_trust *trust;
	X509 *leaf;
	STACK_OF(X509) *others;

	(void)state;
	pki_read(&cross, "leaf.by=broot|broot.by=root|broot.aki=yes|send=broot");
	pki_read(&own, "");
	leaf = pki_cert(&cross, "leaf");
	others = make_others(&cross, leaf);
	trust = make_trust(&own, "root", &err);
	assert_int_equal(verify(trust, leaf, others, NOW, &err), -EACCES);
	assert_contains(err.text, "another trust domain");
	weft_trust_unref(trust);
	/* Where it is a root of both, it is ours too. */
	trust = make_trust(&own, "root,broot", &err);
	assert_int_equal(verify(trust, leaf, others, NOW, &err), 0);
	weft_trust_unref(trust);
	free_chain(leaf, others);
	pki_done(&cross);
	pki_done(&own);
}

/* A chain that is good but for its number: x is sent as often as needed. */
static void test_count(void **state)
{
	struct weft_err err = { 0 };
	struct weft_trust *trust;
	struct pki pki;

	(void)state;
	pki_read(&pki, "");
	trust = make_trust(&pki, "root", &err);
	for (int with_leaf = 0; with_leaf < 2; with_leaf++)
		for (int extra = 0; extra <= 98; extra = extra < 8 ? extra + 1 : extra + 90) {
			X509 *leaf = pki_cert(&pki, "leaf"), *other = pki_cert(&pki, "x");
			STACK_OF(X509) *others = sk_X509_new_null();
			int r;

			if (with_leaf) {
				X509_up_ref(leaf);
				sk_X509_push(others, leaf);
			}
			sk_X509_push(others, pki_cert(&pki, "ica"));
			for (int i = 0; i < extra; i++) {
				X509_up_ref(other);
				sk_X509_push(others, other);
			}
			r = verify(trust, leaf, others, NOW, &err);
			assert_int_equal(r, extra + 2 <= WEFT_TRUST_MAX_CHAIN ? 0 : -EACCES);
			if (r < 0)
				assert_contains(err.text, "more than 8 certificates");
			X509_free(other);
			free_chain(leaf, others);
		}
	weft_trust_unref(trust);
	pki_done(&pki);
}

/* `who`, longer: an extension that says nothing is filled until the whole has `size` bytes, or a few less. */
static X509 *blow_up(const struct pki *pki, const char *who, int size)
{
	X509 *cert = pki_cert(pki, who), *again;
	ASN1_OBJECT *object = OBJ_txt2obj("1.2.3.4", 1);
	int have = i2d_X509(cert, NULL), wanted = size - have - 24;

	for (;; wanted++) {
		X509 *copy = X509_dup(cert);
		ASN1_OCTET_STRING *value = ASN1_OCTET_STRING_new();
		X509_EXTENSION *extension;
		unsigned char *der = NULL;
		const unsigned char *at;
		int length;

		ASN1_STRING_set(value, NULL, wanted);
		/* An OCTET STRING, its size in four octets. */
		memset(value->data, 0, (size_t)wanted);
		value->data[0] = V_ASN1_OCTET_STRING;
		value->data[1] = 0x84;
		for (int i = 0; i < 4; i++)
			value->data[2 + i] = (unsigned char)((wanted - 6) >> (24 - 8 * i));
		extension = X509_EXTENSION_create_by_OBJ(NULL, object, 0, value);
		X509_add_ext(copy, extension, -1);
		sign(pki, who, copy, key_of(pki, signer_of(pki, who)));
		length = i2d_X509(copy, &der);
		at = der;
		again = d2i_X509(NULL, &at, length);
		OPENSSL_free(der);
		X509_EXTENSION_free(extension);
		ASN1_OCTET_STRING_free(value);
		X509_free(copy);
		/* ECDSA's signatures are of 70 to 72 octets: another try hits. */
		if (length == size)
			break;
		if (length > size)
			wanted = size - have - 26;
		X509_free(again);
	}
	ASN1_OBJECT_free(object);
	X509_free(cert);
	return again;
}

static void test_size(void **state)
{
	static const int sizes[] = { WEFT_TRUST_MAX_CERT, WEFT_TRUST_MAX_CERT + 1, 1 << 20 };
	struct weft_err err = { 0 };
	struct weft_trust *trust;
	struct pki pki;

	(void)state;
	pki_read(&pki, "");
	trust = make_trust(&pki, "root", &err);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (int of_ca = 0; of_ca < 2; of_ca++) {
			X509 *leaf = of_ca ? pki_cert(&pki, "leaf") : blow_up(&pki, "leaf", sizes[i]);
			STACK_OF(X509) *others = sk_X509_new_null();
			int r;

			sk_X509_push(others, of_ca ? blow_up(&pki, "ica", sizes[i]) : pki_cert(&pki, "ica"));
			r = verify(trust, leaf, others, NOW, &err);
			if (sizes[i] <= WEFT_TRUST_MAX_CERT && r != 0)
				fail_msg("%d bytes: %s", sizes[i], err.text);
			if (sizes[i] > WEFT_TRUST_MAX_CERT) {
				assert_int_equal(r, -EACCES);
				assert_contains(err.text, "more than 16384 bytes");
			}
			free_chain(leaf, others);
		}
	for (size_t i = 0; i < 2; i++) {
		X509 *root = blow_up(&pki, "root", sizes[i]);
		unsigned char *der = NULL;
		int size = i2d_X509(root, &der);

		assert_int_equal(weft_trust_add_root(trust, "third.example", der, (size_t)size, &err),
				 i == 0 ? 0 : -EINVAL);
		OPENSSL_free(der);
		X509_free(root);
	}
	assert_contains(err.text, "16384");
	weft_trust_unref(trust);
	pki_done(&pki);
}

/* The clock jumps: what is judged is the time that is given, both ways, and nothing is remembered of another. */
static void test_clock(void **state)
{
	struct weft_err err = { 0 };
	struct weft_trust *trust;
	struct pki pki;
	X509 *leaf;
	STACK_OF(X509) *others;

	(void)state;
	pki_read(&pki, "crls=crl");
	trust = make_trust(&pki, "root", &err);
	leaf = pki_cert(&pki, "leaf");
	others = make_others(&pki, leaf);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(verify(trust, leaf, others, NOW, &err), 0);
		assert_int_equal(verify(trust, leaf, others, NOW + DAY, &err), 0);
		assert_int_equal(verify(trust, leaf, others, NOW + DAY + 1, &err), -EACCES);
		assert_contains(err.text, "expired");
		assert_int_equal(verify(trust, leaf, others, NOW - DAY, &err), 0);
		assert_int_equal(verify(trust, leaf, others, NOW - DAY - 1, &err), -EACCES);
		assert_contains(err.text, "not yet valid");
	}
	free_chain(leaf, others);
	weft_trust_unref(trust);
	pki_done(&pki);
}

/*
 * A chain that was judged good is known, as that side's, until the first of what it rests on ends, and nothing else is.
 */
static void test_memory(void **state)
{
	static const struct {
		const char *recipe;
		long from, until;
	} spans[] = {
		{ "", -DAY, DAY },
		{ "leaf.to=30", -DAY, 30 },
		{ "leaf.from=-7|ica.to=50", -7, 50 },
		{ "root.from=-3|root.to=20", -3, 20 },
		{ "crls=crl|crl.from=-9|crl.to=40", -9, 40 },
		{ "crls=crl,crl2|crl2.by=root|crl2.to=10|crl.from=-5", -5, 10 },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
		long times[] = { 0, spans[i].from, spans[i].until, 0, spans[i].until + 1, spans[i].from - 1, 0 };
		static const unsigned long judged[] = { 1, 1, 1, 1, 2, 3, 3 };
		struct weft_err err = { 0 };
		struct weft_trust *trust;
		struct pki pki;
		X509 *leaf;
		STACK_OF(X509) *others;
		unsigned char *der;
		char *id = NULL;
		int size;

		pki_read(&pki, spans[i].recipe);
		trust = make_trust(&pki, "root", &err);
		leaf = pki_cert(&pki, "leaf");
		others = make_others(&pki, leaf);
		for (size_t j = 0; j < sizeof(times) / sizeof(times[0]); j++) {
			assert_int_equal(verify(trust, leaf, others, NOW + times[j], &err),
					 judged[j] > 1 && times[j] ? -EACCES : 0);
			assert_int_equal(weft_trust_judged(trust), judged[j]);
		}
		assert_int_equal(weft_trust_verify(trust, leaf, others, WEFT_TRUST_SERVER, NOW, &id, &err), 0);
		assert_int_equal(weft_trust_judged(trust), 4);
		free(id);
		/* What is added to trust makes it forget. */
		size = pki_der(&pki, "nroot", &der);
		assert_int_equal(weft_trust_add_root(trust, "cluster.local", der, (size_t)size, &err), 0);
		OPENSSL_free(der);
		assert_int_equal(verify(trust, leaf, others, NOW, &err), 0);
		assert_int_equal(weft_trust_judged(trust), 1);
		/* The same leaf in another chain is another. */
		X509_free(sk_X509_pop(others));
		assert_int_equal(verify(trust, leaf, others, NOW, &err), -EACCES);
		assert_int_equal(weft_trust_judged(trust), 2);
		free_chain(leaf, others);
		weft_trust_unref(trust);
		pki_done(&pki);
	}
}

static void test_not_der(void **state)
{
	static const char *const domains[] = { "", "Cluster.local", "a/b", "spiffe://a" };
	struct weft_trust *trust = weft_trust_new();
	struct weft_err err = { 0 };
	unsigned char *der, *longer;
	struct pki pki;
	int size;

	(void)state;
	pki_read(&pki, "");
	for (int crl = 0; crl < 2; crl++) {
		int (*add)(struct weft_trust *, const char *, const void *, size_t, struct weft_err *) =
			crl ? weft_trust_add_crl : weft_trust_add_root;

		size = crl ? pki_crl(&pki, "crl", &der) : pki_der(&pki, "root", &der);
		longer = calloc(1, (size_t)size + 1);
		memcpy(longer, der, (size_t)size);
		assert_int_equal(add(trust, "cluster.local", "", 0, &err), -EINVAL);
		assert_int_equal(add(trust, "cluster.local", "-----BEGIN", 10, &err), -EINVAL);
		assert_contains(err.text, "DER");
		assert_int_equal(add(trust, "cluster.local", der, (size_t)size - 1, &err), -EINVAL);
		assert_int_equal(add(trust, "cluster.local", longer, (size_t)size + 1, &err), -EINVAL);
		for (size_t i = 0; i < sizeof(domains) / sizeof(domains[0]); i++) {
			assert_int_equal(add(trust, domains[i], der, (size_t)size, &err), -EINVAL);
			assert_contains(err.text, "no trust domain");
		}
		assert_int_equal(add(trust, "cluster.local", der, (size_t)size, &err), 0);
		/* Once more changes nothing. */
		assert_int_equal(add(trust, "cluster.local", der, (size_t)size, &err), 0);
		free(longer);
		OPENSSL_free(der);
	}
	pki_done(&pki);
	weft_trust_unref(trust);
	assert_int_equal(ERR_peek_error(), 0);
}

static void test_references(void **state)
{
	struct weft_trust *trust = weft_trust_new();

	(void)state;
	assert_ptr_equal(weft_trust_ref(trust), trust);
	assert_null(weft_trust_unref(trust));
	assert_null(weft_trust_unref(trust));
	assert_null(weft_trust_unref(NULL));
}

static int say_how_many(void **state)
{
	(void)state;
	print_message("%zu chains refused to both sides or one, %zu accepted by both\n", negatives, positives);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ids),
		cmocka_unit_test(test_leaves),
		cmocka_unit_test(test_chains),
		cmocka_unit_test(test_domains),
		cmocka_unit_test(test_revocation),
		cmocka_unit_test(test_roots),
		cmocka_unit_test(test_rotation),
		cmocka_unit_test(test_cross_signed),
		cmocka_unit_test(test_foreign_root_key),
		cmocka_unit_test(test_count),
		cmocka_unit_test(test_size),
		cmocka_unit_test(test_clock),
		cmocka_unit_test(test_memory),
		cmocka_unit_test(test_not_der),
		cmocka_unit_test(test_references),
	};

	return cmocka_run_group_tests(tests, NULL, say_how_many);
}
