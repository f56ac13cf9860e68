/* Names of Unicode properties: Oniguruma's to PCRE2's. */
#include "runtime/text/regex.h"

#include <string.h>

/* Names as they are compared: lower case without spaces, hyphens and underscores. */
static const struct {
    const char *name;
    const char *pcre;
} properties[] = {
    {"any", "Any"},
    {"alphabetic", "Alphabetic"},
    {"uppercase", "Uppercase"},
    {"lowercase", "Lowercase"},
    {"whitespace", "White_Space"},
    {"ideographic", "Ideographic"},
    {"unifiedideograph", "Unified_Ideograph"},
    {"emoji", "Emoji"},
    {"emojipresentation", "Emoji_Presentation"},
    {"emojimodifier", "Emoji_Modifier"},
    {"emojimodifierbase", "Emoji_Modifier_Base"},
    {"emojicomponent", "Emoji_Component"},
    {"extendedpictographic", "Extended_Pictographic"},
    {"other", "C"},
    {"control", "Cc"},
    {"cntrl", "Cc"},
    {"format", "Cf"},
    {"unassigned", "Cn"},
    {"privateuse", "Co"},
    {"surrogate", "Cs"},
    {"letter", "L"},
    {"lowercaseletter", "Ll"},
    {"modifierletter", "Lm"},
    {"otherletter", "Lo"},
    {"titlecaseletter", "Lt"},
    {"uppercaseletter", "Lu"},
    {"mark", "M"},
    {"combiningmark", "M"},
    {"spacingmark", "Mc"},
    {"enclosingmark", "Me"},
    {"nonspacingmark", "Mn"},
    {"number", "N"},
    {"decimalnumber", "Nd"},
    {"digit", "Nd"},
    {"letternumber", "Nl"},
    {"othernumber", "No"},
    {"punctuation", "P"},
    {"connectorpunctuation", "Pc"},
    {"dashpunctuation", "Pd"},
    {"closepunctuation", "Pe"},
    {"finalpunctuation", "Pf"},
    {"initialpunctuation", "Pi"},
    {"otherpunctuation", "Po"},
    {"openpunctuation", "Ps"},
    {"symbol", "S"},
    {"currencysymbol", "Sc"},
    {"modifiersymbol", "Sk"},
    {"mathsymbol", "Sm"},
    {"othersymbol", "So"},
    {"separator", "Z"},
    {"lineseparator", "Zl"},
    {"paragraphseparator", "Zp"},
    {"spaceseparator", "Zs"},
};

/* Category codes "l", "lu" and so on, as PCRE2 spells them; false if the name is none. */
static bool category_code(char code[3], const char *name)
{
    if (strchr("clmnpsz", name[0]) == NULL || strlen(name) > 2)
        return false;
    if (name[1] != '\0' && strchr("cdefiklmnopstu", name[1]) == NULL)
        return false;
    code[0] = (char)(name[0] - 'a' + 'A');
    code[1] = name[1];
    code[2] = '\0';
    return true;
}

/* POSIX names mean other sets here than in PCRE2. */
static bool is_posix(const char *name)
{
    static const char *const posix[] = {"alnum", "alpha", "blank", "graph", "lower", "print",
                                        "punct", "space", "upper", "word",  "xdigit"};
    for (size_t i = 0; i < sizeof posix / sizeof posix[0]; i++)
        if (strcmp(posix[i], name) == 0)
            return true;
    return false;
}

bool shoal__regex_property(char out[SHOAL__PROPERTY_BYTES], const char *name)
{
    char code[3];
    if (is_posix(name))
        return false;
    const char *known = category_code(code, name) ? code : NULL;
    for (size_t i = 0; known == NULL && i < sizeof properties / sizeof properties[0]; i++)
        if (strcmp(properties[i].name, name) == 0)
            known = properties[i].pcre;
    /* What is left is a script, or PCRE2 reports it. \p{Han} alone would be Script_Extensions. */
    snprintf(out, SHOAL__PROPERTY_BYTES, "%s%s",
             known != NULL ? "" : "sc:", known != NULL ? known : name);
    return true;
}
